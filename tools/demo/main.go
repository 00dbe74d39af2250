// Command demo shows a cluster at work: three nodes, a video pushed in real time, two viewers, and the node that relays
// it killed in the middle. It prints what the viewers noticed, and ends by itself.
//
// This file tells the story; cluster.go has the nodes, viewer.go those who watch, video.go the test picture, table.go
// the result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1 // something was lost, or did not work at all
	exitUsage       = 2
	exitInterrupted = 128 + int(syscall.SIGINT)
)

// slack is what everything beside the video may take before the demo is given up.
const slack = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, and the nodes with it
	os.Exit(run(ctx, os.Stdout, os.Stderr, os.Args[1:]))
}

// run returns the exit status.
func run(ctx context.Context, out, complaints io.Writer, args []string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(complaints)
	seconds := flags.Int("seconds", 14, "length of the video, at least 4")
	program := flags.String("timedge", filepath.Join("bin", "timedge"), "the timedge to run")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	if flags.NArg() > 0 || *seconds < 4 {
		flags.Usage()
		return exitUsage
	}
	dir, err := os.MkdirTemp("", "timedge-demo")
	if err != nil {
		fmt.Fprintln(complaints, "demo:", err)
		return exitFailed
	}
	within, cancel := context.WithTimeout(ctx, time.Duration(*seconds)*time.Second+slack)
	defer cancel()
	d := &demo{out: out, begun: time.Now(), dir: dir, program: *program}
	err = d.show(within, *seconds)
	switch {
	case ctx.Err() != nil:
		err = errors.Join(errors.New("interrupted"), os.RemoveAll(dir))
		fmt.Fprintln(complaints, "demo:", err)
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(complaints, "demo: %v\nthe video and what the nodes logged are left in %s\n", err, dir)
		return exitFailed
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(complaints, "demo:", err)
		return exitFailed
	}
	return exitOK
}

type demo struct {
	out     io.Writer
	begun   time.Time
	dir     string // for files; the caller's
	program string // path of timedge
}

// say tells what has just happened.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%5.1f s  %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, args...))
}

// show runs all of it. It returns an error if a viewer had less than everything; all that it started has ended by then.
func (d *demo) show(ctx context.Context, seconds int) error {
	ctx, cancel := context.WithCancel(ctx)
	c := &cluster{program: d.program, dir: d.dir}
	defer c.running.Wait()
	defer cancel() // ends the processes

	v, err := makeVideo(ctx, filepath.Join(d.dir, "video.ts"), seconds)
	if err != nil {
		return err
	}
	d.say("ffmpeg made a test picture with sound: %d s, %d pictures, %.1f MB (H.264 and AAC in MPEG-TS)", seconds, v.pictures, float64(len(v.data))/1e6)
	if err := c.start(ctx, "n1", "n2", "n3"); err != nil {
		return err
	}
	n1, n2, n3 := c.nodes[0], c.nodes[1], c.nodes[2]
	d.say("three nodes run, each a process of its own, and are linked: n1, n2, n3")

	const owner = "demo"
	room, err := c.register(ctx, n1, owner)
	if err != nil {
		return err
	}
	first, err := c.relay(ctx, n2, room, "")
	if err != nil {
		return err
	}
	d.say("room %v is registered on n1; %v", room, first)
	ann, err := watch(ctx, c, "ann", n1, room, len(v.data)/2)
	if err != nil {
		return err
	}
	defer ann.close()
	bob, err := watch(ctx, c, "bob", n3, room, len(v.data)/2)
	if err != nil {
		return err
	}
	defer bob.close()
	push := c.push(ctx, n2, owner, room, v.path)
	d.say("ann watches at n1, bob at n3; timedge push --realtime pushes the video at n2")

	for _, viewer := range []*viewer{ann, bob} {
		if err := viewer.reachHalf(ctx, push); err != nil {
			return err
		}
	}
	before, err := c.relay(ctx, n2, room, "")
	if err != nil {
		return err
	}
	cut := ""
	for _, viewer := range []*viewer{ann, bob} {
		if viewer.at() == before.node {
			cut += ", and " + viewer.name + "'s connection with it"
		}
	}
	killed := time.Now()
	if err := c.kill(before.node); err != nil {
		return err
	}
	d.say("half of the video is there: kill -9 %s, the relay%s", before.node, cut)
	after, err := c.relay(ctx, n2, room, before.node)
	if err != nil {
		return err
	}
	d.say("the video goes on; %v", after)

	select {
	case err := <-push:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	d.say("all is pushed; ffmpeg decodes what each viewer received")
	var all []seen
	for _, viewer := range []*viewer{ann, bob} {
		s, err := viewer.finish(ctx, killed, v)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	return conclude(d.out, before, after, v, all)
}
