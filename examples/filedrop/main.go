// Command filedrop sends a file from account to account, and is sure that it arrived: its SHA-256 follows the bytes.
//
//	filedrop -name alice -from bob > copy
//	filedrop -name bob -to alice < file
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/timedge/timedge/client"
)

const (
	content = 1 // the stream of the file's bytes
	piece   = 64 << 10
)

func main() {
	name := flag.String("name", "somebody", "who to be")
	from := flag.String("from", "", "receive from this account")
	to := flag.String("to", "", "send to this account")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.Dial(ctx, client.Options{Account: *name})
	if err == nil {
		if *to != "" {
			err = send(ctx, c, *to, os.Stdin)
		} else {
			err = receive(ctx, c, *from, os.Stdout)
		}
		err = errors.Join(err, c.Close(context.Background()))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "filedrop: %q\n", err.Error())
		os.Exit(1)
	}
}

// send waits until the recipient is there, and then until it has all.
func send(ctx context.Context, c *client.Client, to string, file io.Reader) error {
	pub, err := c.PublishTo(ctx, to, client.PublishOptions{})
	for errors.Is(err, client.ErrRecipientAway) || errors.Is(err, client.ErrNotAccepted) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		pub, err = c.PublishTo(ctx, to, client.PublishOptions{})
	}
	if err != nil {
		return err
	}
	sum, buf := sha256.New(), make([]byte, piece)
	for {
		n, err := io.ReadFull(file, buf)
		if n > 0 {
			sum.Write(buf[:n])
			if err := pub.Push(ctx, content, client.Delta, buf[:n]); err != nil { // waits for the recipient
				return err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := pub.Push(ctx, content, client.Key, sum.Sum(nil)); err != nil {
		return err
	}
	return pub.Close(ctx) // flushes: the inbox is lossless, so that the recipient has consumed all then
}

// receive writes what one account sends, and checks it.
func receive(ctx context.Context, c *client.Client, from string, out io.Writer) error {
	in, err := c.OpenInbox(ctx, client.InboxOptions{Policy: client.PolicyLossless, Accept: []string{from}})
	if err != nil {
		return err
	}
	sum := sha256.New()
	for event, err := range in.All(ctx) {
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *client.Message:
			if e.Kind == client.Key {
				if !bytes.Equal(e.Payload, sum.Sum(nil)) {
					return errors.New("what came is not what was sent")
				}
				return in.Close() // what Next returned counts as consumed
			}
			sum.Write(e.Payload)
			if _, err := out.Write(e.Payload); err != nil {
				return err
			}
		case *client.Gap:
			return fmt.Errorf("frames %d to %d are missing: %v", e.From, e.To, e.Reason)
		case *client.Left:
			return errors.New("the sender has gone")
		}
	}
	return nil // not before one of the above
}
