package engine

import (
	"context"
	"testing"

	"github.com/panjf2000/gnet/v2"
)

// BenchmarkWake compares the ways to call a function on a loop that sleeps: through the mailbox with a byte on a socket
// pair, and through gnet's Execute. An operation is one call, there and back.
func BenchmarkWake(b *testing.B) {
	e, err := Start(Config{Listen: []string{"127.0.0.1:0"}, Loops: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Shutdown(b.Context()) }()
	l, called := e.loops[0], make(chan struct{}, 1)
	f := func() { called <- struct{}{} }
	b.Run("by=socketpair", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.post(item{kind: itemDo, do: f})
			<-called
		}
	})
	b.Run("by=execute", func(b *testing.B) {
		b.ReportAllocs()
		run := gnet.RunnableFunc(func(context.Context) error { f(); return nil })
		for b.Loop() {
			if err := l.reactor.Execute(b.Context(), run); err != nil {
				b.Fatal(err)
			}
			<-called
		}
	})
}
