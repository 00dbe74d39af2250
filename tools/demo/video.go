package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// video is a file, and what is in it.
type video struct {
	path     string
	data     []byte
	pictures int // that can be decoded
}

// makeVideo has ffmpeg make a test picture with sound, 25 pictures a second and a key picture every second.
func makeVideo(ctx context.Context, path string, seconds int) (*video, error) {
	source := fmt.Sprintf("-v error -f lavfi -i testsrc2=size=640x360:rate=25:duration=%d -f lavfi -i sine=duration=%d ", seconds, seconds)
	const codecs = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -c:a aac"
	cmd := exec.CommandContext(ctx, "ffmpeg", append(strings.Fields(source+codecs), path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ffmpeg: %w: %s", err, bytes.TrimSpace(out))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pictures, faults, err := decode(ctx, data)
	if err == nil && faults > 0 {
		err = fmt.Errorf("ffmpeg finds %d faults in what it has just made", faults)
	}
	return &video{path, data, pictures}, err
}

// decode decodes pictures and sound to the last byte. It returns the number of pictures, and of the lines that ffmpeg
// complained in. It is an error if ffmpeg cannot be run.
func decode(ctx context.Context, data []byte) (pictures, faults int, err error) {
	cmd := exec.CommandContext(ctx, "ffmpeg", strings.Fields("-v error -threads 1 -i pipe:0 -map 0 -fps_mode:v passthrough -f framemd5 -")...)
	cmd.Stdin = bytes.NewReader(data)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "0,") { // the number of the stream; the picture is the first
			pictures++
		}
	}
	faults = strings.Count(said.String(), "\n")
	if cmd.ProcessState != nil && ctx.Err() == nil { // it ran: what it says is about the video
		if err != nil {
			faults = max(faults, 1)
		}
		return pictures, faults, nil
	}
	return pictures, faults, err
}
