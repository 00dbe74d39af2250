//go:build linux

package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/timedge/timedge/client"
)

// exampleRoom is a room of alice's with a publisher and a subscriber, on a server of its own.
func exampleRoom(o client.RoomOptions) (pub *client.Publisher, sub *client.Subscription, stop func()) {
	ctx := context.Background()
	addr, stopServer := start()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	room := register(alice, o)
	sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	pub, err = alice.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return pub, sub, func() {
		alice.Close(ctx)
		bob.Close(ctx)
		stopServer()
	}
}

// Several messages may be on their way at once; a receipt tells when its own has arrived.
func ExamplePublisher_PushAsync() {
	ctx := context.Background()
	pub, _, stop := exampleRoom(client.RoomOptions{})
	defer stop()
	var receipts []client.Receipt
	for i := range 3 {
		r, err := pub.PushAsync(ctx, 1, client.Key, fmt.Append(nil, "message ", i))
		if err != nil {
			log.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	for i, r := range receipts {
		fmt.Println(i, r.Wait(ctx))
	}
	fmt.Println("arrived up to frame", pub.Acked(1))
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
	// arrived up to frame 3
}

// A game that must not wait skips a state when the last ones have not gone out yet.
func ExamplePublisher_TryPush() {
	pub, _, stop := exampleRoom(client.RoomOptions{Policy: client.PolicyLatest})
	defer stop()
	switch err := pub.TryPush(1, client.Key, []byte("x=3 y=4")); {
	case errors.Is(err, client.ErrFull):
		fmt.Println("skipped")
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println("on its way")
	}
	// Output: on its way
}

func ExamplePublisher_PushBatch() {
	ctx := context.Background()
	pub, _, stop := exampleRoom(client.RoomOptions{})
	defer stop()
	n, err := pub.PushBatch(ctx, 1, client.Key, []byte("one"), []byte("two"), []byte("three"))
	fmt.Println(n, err)
	// Output: 3 <nil>
}

func ExampleSubscription_All() {
	ctx := context.Background()
	pub, sub, stop := exampleRoom(client.RoomOptions{Policy: client.PolicyLossless})
	defer stop()
	if _, err := pub.PushBatch(ctx, 1, client.Key, []byte("one"), []byte("two")); err != nil {
		log.Fatal(err)
	}
	for event, err := range sub.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if m, is := event.(*client.Message); is {
			fmt.Printf("%s: %s\n", m.Publisher, m.Payload)
			if string(m.Payload) == "two" {
				break
			}
		}
	}
	// Output:
	// alice: one
	// alice: two
}

// A subscriber that ends takes what has come before.
func ExampleClient_Drain() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice, bob := dial(addr, "alice"), dial(addr, "bob")
	defer alice.Close(ctx)
	room := register(alice, client.RoomOptions{})
	sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if err := alice.Push(ctx, room, 1, []byte("the last line")); err != nil {
		log.Fatal(err)
	}
	drained := make(chan error, 1)
	for event, err := range sub.All(ctx) {
		if err != nil {
			break // the subscription has ended
		}
		if m, is := event.(*client.Message); is {
			fmt.Printf("%s\n", m.Payload)
			go func() { drained <- bob.Drain(ctx) }()
		}
	}
	fmt.Println(<-drained)
	// Output:
	// the last line
	// <nil>
}

func ExampleOptions_onState() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c, err := client.Dial(ctx, client.Options{
		Servers: []string{addr}, Account: "alice",
		OnState: func(s client.State) { fmt.Println(s.Phase) },
	})
	if err != nil {
		log.Fatal(err)
	}
	c.Close(ctx)
	// Output:
	// connecting
	// connected
	// ended
}

// A program that is restarted goes on behind the last message that the one before it had.
func ExampleSubscribeOptions_from() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	alice := dial(addr, "alice")
	defer alice.Close(ctx)
	room := register(alice, client.RoomOptions{})

	var saved []client.Position // in a file, say
	run := func(lines int, between func()) {
		bob := dial(addr, "bob")
		defer bob.Close(ctx)
		sub, err := bob.Subscribe(ctx, room, client.SubscribeOptions{From: saved})
		if err != nil {
			log.Fatal(err)
		}
		between()
		for event, err := range sub.All(ctx) {
			if err != nil {
				log.Fatal(err)
			}
			if m, is := event.(*client.Message); is {
				fmt.Printf("%s\n", m.Payload)
				if lines--; lines == 0 {
					break
				}
			}
		}
		saved = sub.Positions()
	}
	push := func(line string) {
		if err := alice.Push(ctx, room, 1, []byte(line)); err != nil {
			log.Fatal(err)
		}
	}
	run(1, func() { push("one") })
	push("two")
	push("three")
	run(2, func() {})
	// Output:
	// one
	// two
	// three
}

func ExampleClient_Stats() {
	ctx := context.Background()
	addr, stop := start()
	defer stop()
	c := dial(addr, "alice")
	defer c.Close(ctx)
	s := c.Stats()
	fmt.Println(s.Connections, s.Requests, s.Unacked)
	// Output: 1 0 0
}
