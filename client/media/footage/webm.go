package footage

import (
	"encoding/binary"
	"math/bits"
)

// Surgery on Matroska files: RFC 9559.

const (
	segmentID, clusterID, timestampID = 0x18538067, 0x1f43b675, 0xe7
	blockID                           = 0xa3
)

// cluster is blocks with their times.
type cluster struct {
	time   int64
	blocks []block
}

type block struct {
	raw  []byte // with the time that is relative to its cluster
	time int64
}

func vint(b []byte, mark bool) (v uint64, n int) {
	n = bits.LeadingZeros8(b[0]) + 1
	for _, c := range b[:n] {
		v = v<<8 | uint64(c)
	}
	if !mark {
		v &= 1<<(7*n) - 1
	}
	return v, n
}

func number(b []byte) (v int64) {
	for _, c := range b {
		v = v<<8 | int64(c)
	}
	return v
}

// parseWebM returns all before the first cluster, the segment without a size, and the clusters with their simple
// blocks. What else there is in, between and behind them is left out.
func parseWebM(b []byte) (head []byte, clusters []cluster) {
	for at := 0; at < len(b); {
		id, n := vint(b[at:], true)
		size, k := vint(b[at+n:], false)
		switch id {
		case segmentID:
			head = append(head, 0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
			at += n + k
			continue
		case clusterID:
			clusters = append(clusters, cluster{})
			at += n + k
			continue
		}
		raw := b[at : at+n+k+int(size)]
		body := raw[n+k:]
		if len(clusters) == 0 {
			head = append(head, raw...)
		} else if c := &clusters[len(clusters)-1]; id == timestampID {
			c.time = number(body)
		} else if id == blockID {
			c.blocks = append(c.blocks, block{body, c.time + int64(int16(binary.BigEndian.Uint16(body[1:])))})
		}
		at += len(raw)
	}
	return head, clusters
}

func elementOf(id uint64, body []byte) []byte {
	var b []byte
	switch {
	case id > 0xffffff:
		b = binary.BigEndian.AppendUint32(nil, uint32(id))
	default:
		b = []byte{byte(id)}
	}
	return append(binary.BigEndian.AppendUint64(b, 1<<56|uint64(len(body))), body...)
}

// write writes a cluster, with a size or without.
func (c *cluster) write(sized bool, extra ...byte) []byte {
	body := append([]byte{timestampID, 0x84}, binary.BigEndian.AppendUint32(nil, uint32(c.time))...)
	body = append(body, extra...)
	for _, k := range c.blocks {
		raw := append([]byte{}, k.raw...)
		binary.BigEndian.PutUint16(raw[1:], uint16(int16(k.time-c.time)))
		body = append(body, elementOf(blockID, raw)...)
	}
	if sized {
		return elementOf(clusterID, body)
	}
	return append([]byte{0x1f, 0x43, 0xb6, 0x75, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, body...)
}

// unsized takes the clusters' sizes away.
func unsized(b []byte) []byte {
	out, clusters := parseWebM(b)
	for i := range clusters {
		out = append(out, clusters[i].write(false)...)
	}
	return out
}

// oneCluster makes one cluster of all, as a recorder that never starts another.
func oneCluster(b []byte) []byte {
	out, clusters := parseWebM(b)
	all := cluster{time: clusters[0].time}
	for _, c := range clusters {
		all.blocks = append(all.blocks, c.blocks...)
	}
	return append(out, all.write(false)...)
}

// soundFirst has each cluster begin with n blocks of sound, which is the second track.
func soundFirst(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		out, clusters := parseWebM(b)
		var carried []block
		for i, c := range clusters {
			var rest, sound []block
			for j := len(c.blocks) - 1; j >= 0; j-- {
				if k := c.blocks[j]; i+1 < len(clusters) && len(sound) < n && k.raw[0] == 0x82 {
					sound = append([]block{k}, sound...)
				} else {
					rest = append([]block{k}, rest...)
				}
			}
			c.blocks = append(carried, rest...)
			carried = sound
			c.time = c.blocks[0].time
			for _, k := range c.blocks {
				c.time = min(c.time, k.time)
			}
			out = append(out, c.write(true)...)
		}
		return out
	}
}

// padded puts void elements before and into clusters.
func padded(b []byte) []byte {
	out, clusters := parseWebM(b)
	void := elementOf(0xec, make([]byte, 50))
	for i := range clusters {
		out = append(append(out, void...), clusters[i].write(true, void...)...)
	}
	return out
}
