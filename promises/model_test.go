package promises

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/room"
)

// TestModel has random clients do random things: register, grant, revoke, remove, publish, push messages of all kinds
// and sizes, subscribe, unsubscribe, stall, go on, break connections. Every answer is the one that the model of rooms
// gives, and every subscriber sees what the model lets it see: each stream in order and nothing twice, whatever is
// missing named, whole messages that are what was pushed, everything in a lossless room, the newest in a latest one, a
// decoder's start behind a gap, and at last why it ended, after everything before that.
//
// A failing round prints its seed and what was done.
func TestModel(t *testing.T) {
	seed, _ := seeded(t)
	budget := 8 * time.Second
	if long {
		budget = 5 * time.Minute
	}
	rounds := 0
	for begun := time.Now(); rounds == 0 || *seedFlag == 0 && time.Since(begun) < budget; rounds++ {
		if !t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { round(t, seed) }) {
			t.Fatalf("again with: go test ./promises -run '^TestModel$' -seed=%d", seed)
		}
		seed++
	}
	t.Logf("%d rounds", rounds)
}

// operations is how many a round has.
const operations = 400

// world is a round: the clients, and the model that they are held against.
type world struct {
	t        *testing.T
	ctx      context.Context
	rnd      *rand.Rand
	addr     string
	accounts []*account
	rooms    []*refRoom // those that ended, too
	pubs     []*publisher
	subs     []*subscriber
	did      []string
}

// account is one who may own rooms, publish and subscribe, over one connection that never stalls.
type account struct {
	name   string
	link   *link
	c      *client.Client
	shared map[*refRoom]*subscriber // subscriptions over that connection
}

// publisher pushes in a goroutine of its own, for a lossless room may hold it up.
type publisher struct {
	*refPub
	room *refRoom
	p    *client.Publisher
	jobs chan func()
	done chan struct{}
	err  error // of a push; only read in jobs, or when done
}

func round(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	w := &world{t: t, ctx: ctx, rnd: rand.New(rand.NewPCG(seed, 1))}
	w.addr = serveHere(t, engine.Config{
		SendBuffer: 64 << 10,
		Rooms:      room.Config{Window: 256 << 10, Stall: 2 * patience, Linger: 2 * patience},
	})
	for i := range 4 {
		a := &account{name: fmt.Sprint("account", i), link: &link{nums: make(map[codec.RoomID]uint16)}, shared: make(map[*refRoom]*subscriber)}
		a.c = dial(t, client.Options{Servers: []string{w.addr}, Account: a.name, Dialer: a.link.dial})
		w.accounts = append(w.accounts, a)
	}
	defer func() {
		if t.Failed() {
			t.Logf("the last that was done:\n%s", strings.Join(w.did[max(0, len(w.did)-60):], "\n"))
		}
	}()
	defer w.release()
	dying := []*subscriber{w.dying(client.RoomOptions{Idle: time.Second}, codec.CodeIdle),
		w.dying(client.RoomOptions{Expire: time.Second}, codec.CodeExpired)}
	for range operations {
		w.step()
		w.check()
	}
	w.settle(dying)
}

// step does one random thing.
func (w *world) step() {
	type op struct {
		weight int
		do     func()
	}
	ops := []op{
		{4, w.register}, {2, w.remove}, {6, w.grant}, {3, w.revoke}, {3, w.stat},
		{12, w.publish}, {4, w.unpublish}, {40, w.push}, {10, w.burst}, {4, w.flush},
		{16, w.subscribe}, {4, w.unsubscribe}, {8, w.stall}, {8, w.goOn}, {5, w.breakSubscriber}, {3, w.breakAccount},
	}
	if len(w.rooms) < 4 {
		w.register()
		return
	}
	sum := 0
	for _, o := range ops {
		sum += o.weight
	}
	n := w.rnd.IntN(sum)
	for _, o := range ops {
		if n -= o.weight; n < 0 {
			o.do()
			return
		}
	}
}

func (w *world) log(format string, args ...any) { w.did = append(w.did, fmt.Sprintf(format, args...)) }

// want ends the test if err is not the refusal with that code; 0: no error.
func (w *world) want(err error, code codec.Code, format string, args ...any) {
	w.t.Helper()
	w.log(format+": %v", append(args, code)...)
	if code == 0 && err != nil || code != 0 && !errors.Is(err, &client.RefusedError{Code: code}) {
		w.t.Fatalf("%s: %v, want code %v", fmt.Sprintf(format, args...), err, code)
	}
}

// check ends the test if a subscriber has seen what it must not.
func (w *world) check() {
	for _, s := range w.subs {
		select {
		case <-s.done:
			if s.fault != nil {
				w.t.Fatalf("%s: %v\nseen:%s", s.name, s.fault, s.tracker.history())
			}
		default:
		}
	}
}

func pick[T any](rnd *rand.Rand, from []T) (x T, ok bool) {
	if len(from) == 0 {
		return x, false
	}
	return from[rnd.IntN(len(from))], true
}

// any returns an account.
func (w *world) any() *account { return w.accounts[w.rnd.IntN(len(w.accounts))] }

// room returns a room, mostly one that lives.
func (w *world) room() *refRoom {
	for {
		r := w.rooms[w.rnd.IntN(len(w.rooms))]
		if r.ended == 0 || w.rnd.IntN(20) == 0 {
			return r
		}
	}
}

// code returns what a request of the owner's is answered with if a asks.
func (r *refRoom) code(a *account) codec.Code {
	switch {
	case r.ended != 0:
		return codec.CodeRoomUnknown
	case r.owner != a:
		return codec.CodeNotOwner
	}
	return 0
}

func (w *world) register() {
	a := w.any()
	o := client.RoomOptions{Policy: codec.Policy(w.rnd.IntN(4)), QueueBytes: 64 << 10, QueueAge: time.Minute}
	if w.rnd.IntN(10) == 0 {
		o.QueueBytes = 1
		_, err := a.c.Register(w.ctx, o)
		if errors.Is(err, client.ErrUnanswered) {
			return
		}
		w.want(err, codec.CodeBadOption, "%s registers with a bad option", a.name)
		return
	}
	if o.Policy != codec.PolicyDisconnect && w.rnd.IntN(5) == 0 {
		o.MaxSubscribers = 2
	}
	w.registerRoom(a, o)
}

func (w *world) registerRoom(a *account, o client.RoomOptions) *refRoom {
	id, err := a.c.Register(w.ctx, o)
	for errors.Is(err, client.ErrUnanswered) { // the connection has just been broken
		id, err = a.c.Register(w.ctx, o)
	}
	w.want(err, 0, "%s registers %v, %v", a.name, id, o.Policy)
	r := &refRoom{
		id: id, owner: a, policy: o.Policy, maxSubs: o.MaxSubscribers, granted: make(map[*account]bool),
		live: make(map[*account]*publisher), pubs: make(map[uint16]*refPub),
	}
	w.rooms = append(w.rooms, r)
	return r
}

func (w *world) remove() {
	a, r := w.any(), w.room()
	if w.rnd.IntN(2) == 0 {
		a = r.owner
	}
	code := r.code(a)
	if code == 0 {
		w.end(r, w.rnd.IntN(2) == 0)
		return
	}
	err := a.c.Remove(w.ctx, r.id)
	for errors.Is(err, client.ErrUnanswered) {
		err = a.c.Remove(w.ctx, r.id)
	}
	w.want(err, code, "%s removes %v", a.name, r.id)
}

// end has a room's owner remove it, when all that was pushed into it has arrived if whole is set, as far as it can be.
func (w *world) end(r *refRoom, whole bool) {
	whole = whole && w.flows(r)
	if whole {
		for _, p := range r.live {
			p.flush(w)
		}
	}
	r.mu.Lock()
	r.ended, r.whole = codec.CodeRemoved, whole
	r.mu.Unlock()
	err := r.owner.c.Remove(w.ctx, r.id)
	if errors.Is(err, client.ErrUnanswered) {
		if err = r.owner.c.Remove(w.ctx, r.id); errors.Is(err, &client.RefusedError{Code: codec.CodeRoomUnknown}) {
			err = nil
		}
	}
	w.want(err, 0, "%s removes its %v, whole: %v", r.owner.name, r.id, whole)
	for _, p := range r.live {
		w.over(p)
	}
}

// flows reports whether all that is pushed into a room arrives: no subscriber holds it up.
func (w *world) flows(r *refRoom) bool {
	if r.policy != codec.PolicyLossless {
		return true
	}
	for _, s := range w.subs {
		if s.room == r && s.stalled {
			return false
		}
	}
	return true
}

func (w *world) grant() {
	a, b, r := w.any(), w.any(), w.room()
	if w.rnd.IntN(2) == 0 {
		a = r.owner
	}
	code := r.code(a)
	w.want(a.c.Grant(w.ctx, r.id, b.name), code, "%s grants %v to %s", a.name, r.id, b.name)
	if code == 0 {
		r.granted[b] = true
	}
}

func (w *world) revoke() {
	a, b, r := w.any(), w.any(), w.room()
	if w.rnd.IntN(2) == 0 {
		a = r.owner
	}
	code := r.code(a)
	if code == 0 && b == r.owner {
		code = codec.CodeBadOption
	}
	p := r.live[b]
	if code == 0 && p != nil {
		r.mu.Lock()
		p.left = codec.CodeRevoked
		r.mu.Unlock()
	}
	w.want(a.c.Revoke(w.ctx, r.id, b.name), code, "%s revokes %v from %s", a.name, r.id, b.name)
	if code == 0 {
		delete(r.granted, b)
		if p != nil {
			w.over(p)
		}
	}
}

// over waits until a publisher's client knows that it has ended.
func (w *world) over(p *publisher) {
	w.t.Helper()
	for open := true; open; {
		select {
		case _, open = <-p.p.Counts():
		case <-w.ctx.Done():
			w.t.Fatalf("%s is not told that it does not publish into %v any more", p.by.name, p.room.id)
		}
	}
	close(p.jobs)
	<-p.done
	delete(p.room.live, p.by)
	for i := range w.pubs {
		if w.pubs[i] == p {
			w.pubs = append(w.pubs[:i], w.pubs[i+1:]...)
			break
		}
	}
}

func (w *world) stat() {
	a, r := w.any(), w.room()
	if w.rnd.IntN(5) == 0 {
		_, err := a.c.Stat(w.ctx, 0)
		w.want(err, codec.CodeRoomMalformed, "%s asks for room 0", a.name)
		return
	}
	info, err := a.c.Stat(w.ctx, r.id)
	if r.ended != 0 {
		w.want(err, codec.CodeRoomUnknown, "%s asks for %v", a.name, r.id)
		return
	}
	w.want(err, 0, "%s asks for %v", a.name, r.id)
	if info.Owner != r.owner.name || info.Policy != r.policy || info.Publishers != uint64(len(r.live)) ||
		r.maxSubs > 0 && info.Subscribers != uint64(r.subs) {
		w.t.Fatalf("room %v: %+v; want %d publishers, %d subscribers", r.id, info, len(r.live), r.subs)
	}
}

func (w *world) publish() {
	a, r := w.any(), w.room()
	code := codec.Code(0)
	switch {
	case r.ended != 0:
		code = codec.CodeRoomUnknown
	case a != r.owner && !r.granted[a]:
		code = codec.CodeNotGranted
	case r.live[a] != nil:
		if _, err := a.c.Publish(w.ctx, r.id, client.PublishOptions{}); err != client.ErrPublishing {
			w.t.Fatalf("%s publishes into %v twice: %v", a.name, r.id, err)
		}
		return
	}
	p, err := a.c.Publish(w.ctx, r.id, client.PublishOptions{})
	w.want(err, code, "%s publishes into %v", a.name, r.id)
	if code == 0 {
		w.publishing(a, r, p)
	}
}

func (w *world) publishing(a *account, r *refRoom, p *client.Publisher) *publisher {
	x := &publisher{
		refPub: &refPub{by: a, num: a.link.num(r.id), streams: make(map[uint8]*refStream)},
		room:   r, p: p, jobs: make(chan func(), 1<<16), done: make(chan struct{}),
	}
	w.log("... under number %d", x.num)
	r.mu.Lock()
	r.pubs[x.num] = x.refPub
	r.mu.Unlock()
	r.live[a] = x
	w.pubs = append(w.pubs, x)
	go func() {
		defer close(x.done)
		for job := range x.jobs {
			job()
		}
	}()
	return x
}

// unpublish ends a publisher after all that it pushed.
func (w *world) unpublish() {
	if p, ok := pick(w.rnd, w.pubs); ok && w.flows(p.room) {
		w.leave(p)
	}
}

func (w *world) leave(p *publisher) {
	w.log("%s leaves %v", p.by.name, p.room.id)
	p.flush(w)
	p.room.mu.Lock()
	p.left, p.whole = codec.CodeLeft, true
	p.room.mu.Unlock()
	w.want(p.p.Close(w.ctx), 0, "%s has left %v", p.by.name, p.room.id)
	w.over(p)
}

// flush waits until all that p pushed has arrived.
func (p *publisher) flush(w *world) {
	w.t.Helper()
	flushed := make(chan error, 1)
	p.jobs <- func() {
		if p.err == nil {
			p.err = p.p.Flush(w.ctx)
		}
		flushed <- p.err
	}
	if err := <-flushed; err != nil {
		w.t.Fatalf("%s pushes into %v: %v", p.by.name, p.room.id, err)
	}
}

func (w *world) flush() {
	if p, ok := pick(w.rnd, w.pubs); ok && w.flows(p.room) {
		p.flush(w)
		w.log("%s has flushed into %v", p.by.name, p.room.id)
	}
}

// push pushes a few messages of any size. The dtypes 0 and 1 have key messages, 2 and 3 have none.
func (w *world) push() {
	p, ok := pick(w.rnd, w.pubs)
	if !ok {
		return
	}
	for range 1 + w.rnd.IntN(5) {
		size := w.rnd.IntN(200)
		switch w.rnd.IntN(20) {
		case 0:
			size = w.rnd.IntN(300_000)
		case 1, 2:
			size = w.rnd.IntN(20_000)
		}
		w.pushOne(p, uint8(w.rnd.IntN(4)), size)
	}
}

// burst pushes more than a stalled subscriber can take, into one stream.
func (w *world) burst() {
	p, ok := pick(w.rnd, w.pubs)
	if !ok {
		return
	}
	dtype := uint8(w.rnd.IntN(4))
	for range 20 + w.rnd.IntN(60) {
		w.pushOne(p, dtype, 2000+w.rnd.IntN(8000))
	}
}

func (w *world) pushOne(p *publisher, dtype uint8, size int) {
	kind := client.Delta
	if dtype < 2 {
		switch w.rnd.IntN(12) {
		case 0:
			kind = client.Init
		case 1, 2:
			kind = client.Key
		}
	}
	body := p.room.push(p.refPub, dtype, kind, size)
	p.jobs <- func() {
		if p.err == nil {
			p.err = p.p.Push(w.ctx, dtype, kind, body)
		}
	}
	w.log("%s pushes %v of %d bytes, dtype %d, into %v", p.by.name, kind, size, dtype, p.room.id)
}

func (w *world) subscribe() {
	a, r := w.any(), w.room()
	code := codec.Code(0)
	switch {
	case r.ended != 0:
		code = codec.CodeRoomUnknown
	case r.maxSubs > 0 && r.subs == r.maxSubs:
		code = codec.CodeRoomFull
	}
	s := &subscriber{room: r, done: make(chan struct{}), tracker: newTracker(r, nil)}
	s.name = fmt.Sprintf("subscriber %d, %s in %v (%v)", len(w.subs), a.name, r.id, r.policy)
	kind := w.rnd.IntN(3)
	if r.maxSubs > 0 {
		kind = 0 // one whose going the server knows of at once, and that breaks no connection
	}
	var err error
	switch kind {
	case 0:
		err = w.subscribeWire(s, a)
	case 1:
		s.link = &link{}
		err = w.subscribeSDK(s, dial(w.t, client.Options{
			Servers: []string{w.addr}, Account: a.name, Dialer: s.link.dial, ReceiveBuffer: 16 << 10,
		}), client.SubscribeOptions{})
	case 2:
		if old := a.shared[r]; old != nil && !old.gone && code == 0 {
			if r.policy == codec.PolicyDisconnect {
				return // it may have been cut off
			}
			code = codec.CodeSubscribed
		}
		s.shared, s.link = true, a.link
		o := client.SubscribeOptions{NoEcho: w.rnd.IntN(2) == 0}
		if o.NoEcho {
			s.tracker.mute = a
		}
		err = w.subscribeSDK(s, a.c, o)
	}
	w.want(err, code, "%s, way %d", s.name, kind)
	if code != 0 {
		return
	}
	r.subs++
	if s.shared {
		a.shared[r] = s
	}
	w.subs = append(w.subs, s)
	go s.run(w.ctx)
}

func (w *world) subscribeSDK(s *subscriber, c *client.Client, o client.SubscribeOptions) error {
	sub, err := c.Subscribe(w.ctx, s.room.id, o)
	s.src = &sdkSource{c, sub}
	return err
}

func (w *world) subscribeWire(s *subscriber, a *account) error {
	x := login(w.t, w.addr, a.name)
	_ = x.c.(*net.TCPConn).SetReadBuffer(receiveBuffer)
	s.src = &wireSource{
		w: x, room: s.room.id, policy: s.room.policy, names: make(map[uint16]string), streams: make(map[codec.StreamKey]*assembly),
	}
	return x.subscribe(s.room.id)
}

// sub returns a subscriber that fits and that the driver has not ended.
func (w *world) sub(fits func(*subscriber) bool) (*subscriber, bool) {
	var some []*subscriber
	for _, s := range w.subs {
		if !s.gone && s.room.ended == 0 && fits(s) {
			some = append(some, s)
		}
	}
	return pick(w.rnd, some)
}

func (w *world) unsubscribe() {
	// In a lossless room whoever leaves while its connection is broken holds the room up until it counts as stalled.
	s, ok := w.sub(func(s *subscriber) bool { return s.room.policy != codec.PolicyLossless || !s.broke.Load() })
	if !ok {
		return
	}
	w.log("%s unsubscribes", s.name)
	s.gone, s.stalled = true, false
	s.gate.set(true)
	err := s.src.leave(w.ctx)
	if err != nil && !(s.room.policy == codec.PolicyDisconnect && errors.Is(err, &client.RefusedError{Code: codec.CodeNotSubscribed})) {
		w.t.Fatalf("%s unsubscribes: %v", s.name, err)
	}
	w.await(s)
	s.room.subs--
}

// await waits until a subscriber has ended.
func (w *world) await(s *subscriber) {
	w.t.Helper()
	select {
	case <-s.done:
	case <-w.ctx.Done():
		w.t.Fatalf("%s does not end", s.name)
	}
	if s.fault != nil {
		w.t.Fatalf("%s: %v\nseen:%s", s.name, s.fault, s.tracker.history())
	}
}

func (w *world) stall() {
	if s, ok := w.sub(func(s *subscriber) bool { return !s.shared && !s.stalled }); ok {
		w.log("%s stalls", s.name)
		s.stalled = true
		s.gate.set(false)
	}
}

func (w *world) goOn() {
	if s, ok := w.sub(func(s *subscriber) bool { return s.stalled }); ok {
		w.log("%s goes on", s.name)
		s.stalled = false
		s.gate.set(true)
	}
}

func (w *world) breakSubscriber() {
	if s, ok := w.sub(func(s *subscriber) bool { return s.link != nil && !s.shared }); ok {
		w.log("%s: connection breaks", s.name)
		s.broke.Store(true)
		s.link.cut(w.rnd.IntN(2) == 0)
	}
}

func (w *world) breakAccount() {
	a := w.any()
	w.log("%s: connection breaks", a.name)
	for _, s := range a.shared {
		s.broke.Store(true)
	}
	a.link.cut(w.rnd.IntN(2) == 0)
}

// dying makes a room that ends by itself, with a subscriber to it and something pushed. It is no room that others may
// use.
func (w *world) dying(o client.RoomOptions, why codec.Code) *subscriber {
	a := w.any()
	r := w.registerRoom(a, o)
	w.rooms = w.rooms[:len(w.rooms)-1]
	r.ended = why
	s := &subscriber{room: r, done: make(chan struct{}), tracker: newTracker(r, nil), name: fmt.Sprintf("subscriber of %v (%v)", r.id, why)}
	if err := w.subscribeWire(s, w.any()); err != nil {
		close(s.done) // the machine is so slow that the room has ended already
		return s
	}
	go s.run(w.ctx)
	if p, err := a.c.Publish(w.ctx, r.id, client.PublishOptions{}); err == nil {
		x := w.publishing(a, r, p)
		w.pubs = w.pubs[:len(w.pubs)-1]
		w.pushOne(x, 0, 100)
		flushed := make(chan bool, 1)
		x.jobs <- func() { flushed <- x.err == nil && p.Flush(w.ctx) == nil }
		ok := <-flushed
		r.mu.Lock()
		r.whole = ok
		r.mu.Unlock()
		close(x.jobs)
	}
	return s
}

// settle has everybody go on, ends all that is left, and waits for the last word to every subscriber.
func (w *world) settle(dying []*subscriber) {
	for _, s := range w.subs {
		s.stalled = false
		s.gate.set(true)
	}
	for i := len(w.pubs) - 1; i >= 0; i-- {
		if w.rnd.IntN(2) == 0 {
			w.leave(w.pubs[i])
		}
	}
	for _, r := range w.rooms {
		if r.ended == 0 {
			w.end(r, true)
		}
	}
	for _, s := range append(w.subs, dying...) {
		w.await(s)
	}
}

// release lets go of everybody after a failure.
func (w *world) release() {
	for _, s := range w.subs {
		s.gate.set(true)
	}
}
