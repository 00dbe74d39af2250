// Command transcode is a bot: it receives a room's MPEG-TS stream, has ffmpeg make it smaller, and pushes the result
// into a room of its own, whose number it prints.
//
//	transcode ROOM
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: transcode ROOM")
		os.Exit(2)
	}
	if err := transcode(ctx, os.Args[1], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "transcode: %q\n", err.Error())
		os.Exit(1)
	}
}

func transcode(ctx context.Context, number string, out io.Writer) error {
	source, err := client.ParseRoomID(number)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, client.Options{Account: "transcoder"})
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	sub, err := c.Subscribe(ctx, source, client.SubscribeOptions{})
	if err != nil {
		return err
	}
	room, err := c.Register(ctx, client.RoomOptions{})
	if err != nil {
		return err
	}
	pub, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "room", room)

	ffmpeg := exec.CommandContext(ctx, "ffmpeg", "-v", "error", "-f", "mpegts", "-i", "-", "-vf", "scale=-2:180",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30",
		"-c:a", "aac", "-f", "mpegts", "-")
	ffmpeg.Stderr = os.Stderr
	in, err := ffmpeg.StdinPipe()
	if err != nil {
		return err
	}
	made, err := ffmpeg.StdoutPipe()
	if err != nil {
		return err
	}
	if err := ffmpeg.Start(); err != nil {
		return err
	}
	fed := make(chan error, 1)
	go func() { fed <- errors.Join(feed(ctx, sub, in), in.Close()) }()
	err = push(ctx, pub, made)
	return errors.Join(err, <-fed, ffmpeg.Wait(), c.Remove(ctx, room))
}

// feed writes what comes to ffmpeg until the source's room is removed.
func feed(ctx context.Context, sub *client.Subscription, in io.Writer) error {
	for event, err := range sub.All(ctx) {
		switch {
		case errors.Is(err, client.ErrRemoved):
			return nil
		case err != nil:
			return err
		}
		if m, ok := event.(*client.Message); ok {
			if _, err := in.Write(m.Payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// push pushes what ffmpeg makes, unit by unit: pictures that a decoder can start with are key messages.
func push(ctx context.Context, pub *client.Publisher, made io.Reader) error {
	units, err := media.NewSplitter(made)
	if err != nil {
		return err
	}
	for {
		u, err := units.Next()
		if err == io.EOF {
			return pub.Close(ctx)
		}
		if err != nil {
			return err
		}
		if err := pub.Push(ctx, 0, u.Kind, u.Data); err != nil {
			return err
		}
	}
}
