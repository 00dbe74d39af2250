import { mixLinear, type Mix } from "./smooth.js";
import { limbFloats, poseFloats } from "./wire.js";

/** Mixes two poses: places by straight lines, turns by the shorter way. */
export const mixPose: Mix = (a, b, part) => {
  const out = mixLinear(a, b, part);
  for (let limb = 0; limb < 3; limb++) {
    const q = limb * limbFloats + 3;
    let dot = 0;
    for (let i = 0; i < 4; i++) dot += a[q + i]! * b[q + i]!;
    const sign = dot < 0 ? -1 : 1; // q and -q are the same turn
    let length = 0;
    for (let i = 0; i < 4; i++) {
      out[q + i] = a[q + i]! * (1 - part) + sign * b[q + i]! * part;
      length += out[q + i]! ** 2;
    }
    length = Math.sqrt(length) || 1;
    for (let i = 0; i < 4; i++) out[q + i]! /= length;
  }
  return out;
};

type Vector = readonly [x: number, y: number, z: number];

/** Turns a vector by the quaternion x, y, z, w that stands at an index of a pose. */
export function turned(pose: ArrayLike<number>, q: number, [x, y, z]: Vector): Vector {
  const [a, b, c, w] = [pose[q]!, pose[q + 1]!, pose[q + 2]!, pose[q + 3]!];
  const [tx, ty, tz] = [2 * (b * z - c * y), 2 * (c * x - a * z), 2 * (a * y - b * x)];
  return [x + w * tx + b * tz - c * ty, y + w * ty + c * tx - a * tz, z + w * tz + a * ty - b * tx];
}

/** Who stands in the scene: where (m), and where to it looks (radians). */
export interface Stand {
  x: number;
  z: number;
  yaw: number;
  pitch: number;
  /** What the right hand points at, -1 to 1 of the view each way. */
  reach: readonly [number, number];
}

const height = 1.65;

/** Makes the pose of somebody who stands there, at a moment in ms: what a headset would tell. `before` gives the speeds. */
export function poseOf(s: Stand, now: number, before?: { pose: ArrayLike<number>; at: number }): Float32Array {
  const p = new Float32Array(poseFloats);
  const [cy, sy, cp, sp] = [Math.cos(s.yaw / 2), Math.sin(s.yaw / 2), Math.cos(s.pitch / 2), Math.sin(s.pitch / 2)];
  const turn = [cy * sp, sy * cp, -sy * sp, cy * cp]; // yaw, then pitch
  const breath = Math.sin(now / 900) * 0.006;
  const swing = Math.sin(now / 500) * 0.02;
  const places: Vector[] = [[0, height + breath, 0], [-0.28, 1.1 + swing, -0.3], [0.28 + 0.25 * s.reach[0], 1.15 + 0.3 * s.reach[1], -0.45]];
  places.forEach((place, limb) => {
    const at = limb * limbFloats;
    const [x, y, z] = limb === 0 ? place : turned([0, sy, 0, cy], 0, place);
    p.set([s.x + x, y, s.z + z, ...turn], at);
    const seconds = before ? (now - before.at) / 1000 : 0;
    if (before && seconds > 0) for (let i = 0; i < 3; i++) p[at + 7 + i] = (p[at + i]! - before.pose[at + i]!) / seconds;
  });
  for (let i = 0; i < 10; i++) p[3 * limbFloats + i] = 0.5 + 0.5 * Math.sin(now / 700 + i / 2); // fingers
  return p;
}

const faces: Array<readonly number[]> = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]];
const edges: Array<readonly [number, number]> = [[0, 1], [1, 3], [3, 2], [2, 0], [4, 5], [5, 7], [7, 6], [6, 4], [0, 4], [1, 5], [2, 6], [3, 7]];

/** Draws what somebody with that pose sees: the floor, and the others' heads and hands. */
export function drawScene(g: CanvasRenderingContext2D, eye: ArrayLike<number>, others: Iterable<{ pose: ArrayLike<number>; colour: string; name: string }>, ink: string): void {
  const { width, height: high } = g.canvas;
  const zoom = high * 0.9;
  /** The point as this head sees it: -z is ahead. */
  const seen = (v: Vector): Vector => turned([-eye[3]!, -eye[4]!, -eye[5]!, eye[6]!], 0, [v[0] - eye[0]!, v[1] - eye[1]!, v[2] - eye[2]!]);
  const flat = ([x, y, z]: Vector): readonly [number, number] => [width / 2 + (zoom * x) / -z, high / 2 - (zoom * y) / -z];
  const near = -0.1;
  const line = (a: Vector, b: Vector): void => {
    let [p, q] = [seen(a), seen(b)];
    if (p[2] > near && q[2] > near) return;
    if (p[2] > near) [p, q] = [q, p];
    if (q[2] > near) {
      const part = (near - p[2]) / (q[2] - p[2]);
      q = [p[0] + (q[0] - p[0]) * part, p[1] + (q[1] - p[1]) * part, near];
    }
    g.moveTo(...flat(p));
    g.lineTo(...flat(q));
  };
  /** Fills a shape, if all of it is ahead. */
  const fill = (corners: readonly Vector[], alpha: number): void => {
    const points = corners.map(seen);
    if (points.some((p) => p[2] > near)) return;
    g.globalAlpha = alpha;
    g.beginPath();
    for (const p of points) g.lineTo(...flat(p));
    g.fill();
    g.globalAlpha = 1;
  };
  g.clearRect(0, 0, width, high);
  g.lineWidth = 1;
  g.globalAlpha = 0.35;
  g.strokeStyle = ink;
  g.beginPath();
  for (let i = -6; i <= 6; i++) {
    line([i, 0, -6], [i, 0, 6]);
    line([-6, 0, i], [6, 0, i]);
  }
  g.stroke();
  g.globalAlpha = 1;
  for (const { pose, colour, name } of others) {
    g.strokeStyle = g.fillStyle = colour;
    g.lineWidth = 2;
    fill(Array.from({ length: 16 }, (_, i): Vector => [pose[0]! + 0.2 * Math.cos((i * Math.PI) / 8), 0, pose[2]! + 0.2 * Math.sin((i * Math.PI) / 8)]), 0.25); // a shadow
    for (let limb = 0; limb < 3; limb++) {
      const at = limb * limbFloats;
      const half: Vector = limb === 0 ? [0.1, 0.13, 0.11] : [0.04, 0.03, 0.08];
      const corners = Array.from({ length: 8 }, (_, i): Vector => {
        const [x, y, z] = turned(pose, at + 3, [i & 1 ? half[0] : -half[0], i & 2 ? half[1] : -half[1], i & 4 ? half[2] : -half[2]]);
        return [x + pose[at]!, y + pose[at + 1]!, z + pose[at + 2]!];
      });
      for (const face of faces) fill(face.map((i) => corners[i]!), 0.2);
      g.beginPath();
      for (const [a, b] of edges) line(corners[a]!, corners[b]!);
      if (limb === 0) {
        const nose = turned(pose, at + 3, [0, 0, -0.22]);
        line([pose[at]!, pose[at + 1]!, pose[at + 2]!], [nose[0] + pose[at]!, nose[1] + pose[at + 1]!, nose[2] + pose[at + 2]!]);
      }
      g.stroke();
    }
    const above = seen([pose[0]!, pose[1]! + 0.3, pose[2]!]);
    if (above[2] > near) continue;
    g.font = "16px system-ui, sans-serif";
    g.textAlign = "center";
    g.fillText(name, ...flat(above));
  }
}
