/** Paths of the page's icons, in a box of 24 by 24. */
export const icons = {
  camera: "M3 7h11v10H3zM14 10l7-3v10l-7-3",
  screen: "M3 4h18v12H3zM8 20h8M12 16v4",
  file: "M6 3h8l4 4v14H6zM14 3v4h4M10 12l5 3-5 3z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  microphone: "M12 3a3 3 0 0 0-3 3v6a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3zM5 11a7 7 0 0 0 14 0M12 18v3",
  microphoneOff: "M9 9v3a3 3 0 0 0 5 2M15 11V6a3 3 0 0 0-6-1M5 11a7 7 0 0 0 11 6M19 11a7 7 0 0 1-1 3M12 18v3M4 3l16 18",
  cameraOff: "M3 7h3M10 7h4v4M14 14v3H3V7M14 10l7-3v10l-3-1M4 3l16 18",
  sound: "M4 9v6h4l5 4V5L8 9zM16 9a4 4 0 0 1 0 6M18.500 6.500a8 8 0 0 1 0 11",
  soundOff: "M4 9v6h4l5 4V5L8 9zM17 10l4 4M21 10l-4 4",
  captions: "M3 5h18v14H3zM11 10a2.500 2.500 0 1 0 0 4M18 10a2.500 2.500 0 1 0 0 4",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  inPicture: "M3 5h18v14H3zM12 12h7v5h-7z",
  lock: "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3",
  figures: "M5 20V10M12 20V4M19 20v-7",
} as const;
