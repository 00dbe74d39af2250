//go:build linux

package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// start runs a server for an example, in the place of one that would be running elsewhere.
func start() (addr string, stop func()) {
	e, err := engine.Start(engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 1, Log: zerolog.Nop(),
		DrainSpread: time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	return e.Addrs()[0].String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		e.Shutdown(ctx)
	}
}

// dial connects as an account.
func dial(addr, account string) *client.Client {
	c, err := client.Dial(context.Background(), client.Options{Servers: []string{addr}, Account: account})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// register makes a room for an example.
func register(c *client.Client, o client.RoomOptions) codec.RoomID {
	room, err := c.Register(context.Background(), o)
	if err != nil {
		log.Fatal(err)
	}
	return room
}

// A stream from one client to another: alice pushes, bob receives.
func Example() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()

	alice := dial(addr, "alice")
	defer alice.Close(context.Background())
	room, err := alice.Register(ctx, client.RoomOptions{})
	if err != nil {
		log.Fatal(err)
	}

	bob := dial(addr, "bob")
	defer bob.Close(context.Background())
	sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}

	pub, err := alice.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	const video = 1 // the dtype is the caller's own
	if err := pub.Push(ctx, video, client.Init, []byte("header")); err != nil {
		log.Fatal(err)
	}
	if err := pub.Push(ctx, video, client.Key, []byte("picture")); err != nil {
		log.Fatal(err)
	}
	if err := pub.Close(ctx); err != nil { // all has arrived
		log.Fatal(err)
	}
	if err := alice.Remove(ctx, room); err != nil {
		log.Fatal(err)
	}

	for {
		ev, err := sub.Next(ctx)
		var closed *client.ClosedError
		if errors.As(err, &closed) {
			fmt.Println("closed:", closed.Code)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Joined:
			fmt.Println("joined:", ev.Account)
		case *client.Message:
			fmt.Printf("message %d from %s: %v %s\n", ev.First, ev.Publisher, ev.Kind, ev.Payload)
		case *client.Gap:
			fmt.Printf("frames %d to %d are missing: %v\n", ev.From, ev.To, ev.Reason)
		case *client.Left:
			fmt.Println("left:", ev.Account)
		}
	}
	// Output:
	// joined: alice
	// message 1 from alice: init header
	// message 2 from alice: key picture
	// left: alice
	// closed: removed
}

func ExampleDial() {
	addr, stop := start()
	defer stop()
	c, err := client.Dial(context.Background(), client.Options{
		Servers: []string{addr}, // any number; one of them is used at a time
		Account: "alice",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
	fmt.Println("connected")
	// Output: connected
}

func ExampleClient_Close() {
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	c.Close(context.Background())
	_, err := c.Register(context.Background(), client.RoomOptions{})
	fmt.Println(errors.Is(err, client.ErrClosed))
	// Output: true
}

func ExampleClient_Register() {
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room, err := c.Register(context.Background(), client.RoomOptions{
		Policy: codec.PolicyLatest, // only the newest message counts: cursors, game state
		Idle:   time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("a room has", len(room.String()), "characters")
	// Output: a room has 11 characters
}

func ExampleClient_Remove() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room := register(c, client.RoomOptions{})
	if err := c.Remove(ctx, room); err != nil {
		log.Fatal(err)
	}
	err := c.Remove(ctx, room)
	fmt.Println(errors.Is(err, &client.RefusedError{Code: codec.CodeRoomUnknown}))
	// Output: true
}

func ExampleClient_Grant() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	room := register(alice, client.RoomOptions{})

	_, err := bob.Publish(ctx, room, client.PublishOptions{})
	fmt.Println(errors.Is(err, &client.RefusedError{Code: codec.CodeNotGranted}))
	if err := alice.Grant(ctx, room, "bob"); err != nil {
		log.Fatal(err)
	}
	_, err = bob.Publish(ctx, room, client.PublishOptions{})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

func ExampleClient_Revoke() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	room := register(alice, client.RoomOptions{})
	if err := alice.Grant(ctx, room, "bob"); err != nil {
		log.Fatal(err)
	}
	pub, err := bob.Publish(ctx, room, client.PublishOptions{Counts: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := alice.Revoke(ctx, room, "bob"); err != nil {
		log.Fatal(err)
	}
	for range pub.Counts() { // closed when bob is told
	}
	err = pub.Push(ctx, 1, client.Delta, []byte("too late"))
	fmt.Println(errors.Is(err, &client.ClosedError{Code: codec.CodeRevoked}))
	// Output: true
}

func ExampleClient_Stat() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room := register(c, client.RoomOptions{Policy: codec.PolicyDisconnect})
	info, err := c.Stat(ctx, room)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Owner, info.Policy, info.Subscribers, info.Frames)
	// Output: alice disconnect 0 0
}

func ExampleClient_Push() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room := register(c, client.RoomOptions{})
	sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	const cursor = 2
	if err := c.Push(ctx, room, cursor, []byte("12,34")); err != nil {
		log.Fatal(err)
	}
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok {
			fmt.Printf("%d: %s\n", m.Dtype, m.Payload)
			return
		}
	}
	// Output: 2: 12,34
}

func ExampleClient_Publish() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	pub, err := c.Publish(ctx, register(c, client.RoomOptions{}), client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer pub.Close(ctx)
	fmt.Println(pub.Policy())
	// Output: live
}

// A file goes through a lossless room at the pace of its slowest reader: Push waits for it.
func ExamplePublisher_Push() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	room := register(alice, client.RoomOptions{Policy: codec.PolicyLossless})
	sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		pub, err := alice.Publish(ctx, room, client.PublishOptions{})
		if err != nil {
			log.Fatal(err)
		}
		block := make([]byte, 1<<20) // cut into pieces on the way, and joined again
		for range 8 {
			if err := pub.Push(ctx, 0, client.Delta, block); err != nil {
				log.Fatal(err)
			}
		}
		if err := pub.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}()
	size := 0
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			size += len(ev.Payload)
		case *client.Left:
			fmt.Println(size, "bytes")
			return
		}
	}
	// Output: 8388608 bytes
}

func ExamplePublisher_Flush() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room := register(c, client.RoomOptions{})
	pub, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if err := pub.Push(ctx, 1, client.Delta, []byte("x")); err != nil {
			log.Fatal(err)
		}
	}
	if err := pub.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	info, err := c.Stat(ctx, room)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Frames)
	// Output: 3
}

func ExamplePublisher_Counts() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	room := register(alice, client.RoomOptions{})
	pub, err := alice.Publish(ctx, room, client.PublishOptions{Counts: true})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := bob.Subscribe(ctx, room, client.SubscribeOptions{}); err != nil {
		log.Fatal(err)
	}
	for n := range pub.Counts() { // wait for somebody to be there
		if n.Subscribers == 1 {
			fmt.Println("one subscriber")
			break
		}
	}
	// Output: one subscriber
}

func ExamplePublisher_Close() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	pub, err := c.Publish(ctx, register(c, client.RoomOptions{}), client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if err := pub.Push(ctx, 1, client.Delta, []byte("last words")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(pub.Close(ctx)) // nil: they have arrived
	// Output: <nil>
}

func ExampleClient_Subscribe() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "bob")
	defer c.Close(context.Background())
	_, err := c.Subscribe(ctx, 12345, client.SubscribeOptions{Counts: true})
	var no *client.RefusedError
	if errors.As(err, &no) {
		fmt.Println(no.Code)
	}
	// Output: room_unknown
}

// Next waits as long as its context lasts; nothing is lost by giving up.
func ExampleSubscription_Next() {
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	sub, err := c.Subscribe(context.Background(), register(c, client.RoomOptions{}), client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = sub.Next(ctx)
	fmt.Println(err)
	// Output: context deadline exceeded
}

func ExampleClient_Unsubscribe() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	room := register(c, client.RoomOptions{})
	sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Unsubscribe(ctx, room))
	_, err = sub.Next(ctx)
	fmt.Println(errors.Is(err, &client.ClosedError{Code: codec.CodeLeft}))
	// Output:
	// <nil>
	// true
}

func ExampleSubscription_Close() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(context.Background())
	sub, err := c.Subscribe(ctx, register(c, client.RoomOptions{}), client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	sub.Close()
	_, err = sub.Next(ctx)
	fmt.Println(errors.Is(err, &client.ClosedError{Code: codec.CodeLeft}))
	// Output: true
}

func ExampleClient_SendTo() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	in, err := alice.OpenInbox(ctx, client.InboxOptions{Accept: []string{"bob"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := bob.SendTo(ctx, "alice", 1, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	for {
		ev, err := in.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok {
			fmt.Printf("%s from %s\n", m.Payload, m.Publisher)
			break
		}
	}
	// Nobody is told whether an account is there that does not accept them.
	fmt.Println(errors.Is(alice.SendTo(ctx, "bob", 1, []byte("hello")), &client.RefusedError{Code: codec.CodeNotAccepted}))
	fmt.Println(errors.Is(alice.SendTo(ctx, "nobody", 1, []byte("hello")),
		&client.RefusedError{Code: codec.CodeNotAccepted}))
	// Output:
	// hello from bob
	// true
	// true
}

func ExampleClient_OpenInbox() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice := dial(addr, "alice")
	defer alice.Close(context.Background())
	in, err := alice.OpenInbox(ctx, client.InboxOptions{
		Policy: codec.PolicyLossless, Accept: []string{client.Everyone}, Block: []string{"mallory"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	fmt.Println(in.Policy())
	// Output: lossless
}

func ExampleClient_Accept() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	if _, err := alice.OpenInbox(ctx, client.InboxOptions{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(bob.SendTo(ctx, "alice", 1, []byte("may I?")) == nil)
	fmt.Println(alice.Accept(ctx, "bob"))
	fmt.Println(bob.SendTo(ctx, "alice", 1, []byte("thanks")))
	// Output:
	// false
	// <nil>
	// <nil>
}

func ExampleClient_Block() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	if _, err := alice.OpenInbox(ctx, client.InboxOptions{Accept: []string{"bob"}}); err != nil {
		log.Fatal(err)
	}
	pub, err := bob.PublishTo(ctx, "alice", client.PublishOptions{Counts: true})
	if err != nil {
		log.Fatal(err)
	}
	if err := alice.Block(ctx, "bob"); err != nil {
		log.Fatal(err)
	}
	for range pub.Counts() { // until it has ended
	}
	fmt.Println(errors.Is(pub.Push(ctx, 1, client.Delta, []byte("still there?")),
		&client.ClosedError{Code: codec.CodeRevoked}))
	// Output: true
}

// A stream to an account is a stream into its inbox.
func ExampleClient_PublishTo() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(context.Background())
	defer bob.Close(context.Background())
	if _, err := alice.OpenInbox(ctx, client.InboxOptions{Accept: []string{"bob"}}); err != nil {
		log.Fatal(err)
	}
	pub, err := bob.PublishTo(ctx, "alice", client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		if err := pub.Push(ctx, 1, client.Delta, []byte{byte(i)}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(pub.Close(ctx)) // nil: all three have arrived
	// Output: <nil>
}
