package media

import (
	"math"
	"strings"
	"time"
)

type webmHead struct {
	scale  uint64 // nanoseconds per tick
	tracks []webmTrack
}

// webmTrack is what a TrackEntry says.
type webmTrack struct {
	number     uint64
	class      trackClass
	codec      codec
	lengthSize int // of NAL units
	name       string
}

func (h *webmHead) track(number uint64) *webmTrack {
	for i := range h.tracks {
		if h.tracks[i].number == number {
			return &h.tracks[i]
		}
	}
	return nil
}

// video returns the number of the track whose key frames count, the first of video; 0 if there is none.
func (h *webmHead) video() uint64 {
	for i := range h.tracks {
		if h.tracks[i].class == videoTrack {
			return h.tracks[i].number
		}
	}
	return 0
}

// time turns a block's time into a duration; what is not in range is unknown.
func (h *webmHead) time(cluster uint64, rel int16) time.Duration {
	t := int64(cluster) + int64(rel)
	if h.scale == 0 || cluster > math.MaxInt64/2 || t < 0 || uint64(t) > math.MaxInt64/2/h.scale {
		return NoTime
	}
	return time.Duration(uint64(t) * h.scale)
}

func (h *webmHead) readInfo(b []byte) {
	for len(b) > 0 {
		id, body, rest, ok := child(b)
		if !ok {
			return
		}
		if id == idTimestampScale {
			h.scale = bigEndian(body)
		}
		b = rest
	}
}

// maxTracks bounds what is remembered of a file's tracks.
const maxTracks = 256

func (h *webmHead) readTracks(b []byte) {
	h.tracks = nil
	for len(b) > 0 {
		id, body, rest, ok := child(b)
		if !ok {
			return
		}
		if id == idTrackEntry && len(h.tracks) < maxTracks {
			h.tracks = append(h.tracks, readTrack(body))
		}
		b = rest
	}
}

func readTrack(b []byte) (t webmTrack) {
	const video, audio = 1, 2 // RFC 9559, 5.1.4.1.3
	var private []byte
	encoded := false
	for len(b) > 0 {
		id, body, rest, ok := child(b)
		if !ok {
			break
		}
		switch id {
		case idTrackNumber:
			t.number = bigEndian(body)
		case idTrackType:
			switch bigEndian(body) {
			case video:
				t.class = videoTrack
			case audio:
				t.class = audioTrack
			}
		case idCodecID:
			t.name = printable(string(body[:min(len(body), 64)]))
		case idCodecPrivate:
			private = body
		case idEncodings:
			encoded = true // compressed, encrypted, or without the bytes that all blocks begin with
		}
		b = rest
	}
	if t.class == videoTrack && !encoded {
		t.codec, t.lengthSize = webmCodec(t.name, private)
	}
	if t.codec != codecUnknown {
		t.name = t.codec.String()
	}
	t.name = strings.TrimPrefix(strings.TrimPrefix(t.name, "A_"), "V_")
	return t
}

// webmCodec names the codec of a video track, and the size of its NAL units' lengths.
func webmCodec(id string, private []byte) (codec, int) {
	switch id {
	case "V_MPEG4/ISO/AVC":
		return avcC(private)
	case "V_MPEGH/ISO/HEVC":
		return hvcC(private)
	case "V_MPEG1", "V_MPEG2":
		return codecMPEG2, startCodes
	case "V_MPEG4/ISO/SP", "V_MPEG4/ISO/ASP", "V_MPEG4/ISO/AP":
		return codecMPEG4, startCodes
	case "V_VP8":
		return codecVP8, 0
	case "V_VP9":
		return codecVP9, 0
	case "V_AV1":
		return codecAV1, 0
	case "V_THEORA":
		return codecTheora, 0
	case "V_DIRAC":
		return codecDirac, 0
	case "V_MJPEG", "V_PRORES", "V_UNCOMPRESSED":
		return codecIntra, 0
	}
	return codecUnknown, 0
}

// avcC reads the size of NAL units' lengths from a decoder configuration record: ISO/IEC 14496-15, 5.3.3.1. Without a
// record there are start codes.
func avcC(record []byte) (codec, int) {
	if len(record) < 7 || record[0] != 1 {
		return codecH264, startCodes
	}
	return codecH264, int(record[4]&3) + 1
}

// hvcC does the same for H.265: ISO/IEC 14496-15, 8.3.3.1.
func hvcC(record []byte) (codec, int) {
	if len(record) < 23 || record[0] == 0 && record[1] == 0 {
		return codecH265, startCodes
	}
	return codecH265, int(record[21]&3) + 1
}
