package engine

import (
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// At the addresses of Config.ListenWeb and ListenWebTLS a browser gets pages, and connects by WebSocket from them: one
// address is one origin. The request decides. One for WebSocket goes on to a loop, as anywhere; with any other the
// connection is given to net/http, which keeps it to its end.

const (
	maxPageConns  = 1024             // connections that net/http has at once
	pageReadTime  = 10 * time.Second // for one request
	pageWriteTime = time.Minute      // for one answer
	pageIdleTime  = 15 * time.Second // between requests
)

// pageServer is the net.Listener of net/http: what it accepts, handshakes have brought.
type pageServer struct {
	http  http.Server
	conns chan *pageConn
	over  chan struct{} // closed: nothing more is accepted
	close sync.Once
	done  sync.WaitGroup
	place chan struct{} // as many values as connections are open
}

// startPages serves the handler; nil if there is none.
func (e *Engine) startPages() {
	if e.cfg.Pages == nil {
		return
	}
	p := &pageServer{conns: make(chan *pageConn), over: make(chan struct{}), place: make(chan struct{}, maxPageConns)}
	p.http = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !e.try(inPages, func() { e.cfg.Pages.ServeHTTP(w, r) }) {
				http.Error(w, "a fault of this server; its log says more", http.StatusInternalServerError)
			}
		}),
		ReadHeaderTimeout: e.cfg.HelloTimeout, ReadTimeout: pageReadTime, WriteTimeout: pageWriteTime, IdleTimeout: pageIdleTime,
		MaxHeaderBytes: maxRequest, ErrorLog: stdlog.New(io.Discard, "", 0), // what clients do wrong
	}
	e.pages = p
	p.done.Go(func() { _ = p.http.Serve(p) })
}

// stopPages ends the connections that net/http has. Call it when no handshakes are under way any more.
func (e *Engine) stopPages() {
	if e.pages == nil {
		return
	}
	_ = e.pages.http.Close()
	e.pages.done.Wait()
}

// Accept implements net.Listener.
func (p *pageServer) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pageServer) Close() error {
	p.close.Do(func() { close(p.over) })
	return nil
}

// Addr implements net.Listener.
func (p *pageServer) Addr() net.Addr { return &net.TCPAddr{} }

// errPagesFull is a page's connection for which there is no place.
var errPagesFull = errors.New("pages: as many connections as there may be")

// give hands a connection to net/http. It still counts as its address's, and as one of all, until done is called.
func (p *pageServer) give(c *pageConn, done func()) error {
	select {
	case p.place <- struct{}{}:
	default:
		return errPagesFull
	}
	c.done = func() {
		<-p.place
		done()
	}
	select {
	case p.conns <- c:
		return nil
	case <-p.over:
		<-p.place
		return net.ErrClosed
	}
}

// pageConn is the connection of a browser that asks for a page: the socket, or a stream of TLS over it.
type pageConn struct {
	net.Conn
	early []byte // what the handshakes have read
	once  sync.Once
	done  func()
}

func (c *pageConn) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *pageConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.done)
	return err
}

// asksForWebSocket reports whether a request's header has a field Upgrade that names WebSocket.
func asksForWebSocket(head []byte) bool {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Upgrade") && strings.EqualFold(strings.TrimSpace(value), "websocket") {
			return true
		}
	}
	return false
}

// PageAddrs returns the addresses where pages are, as browsers name them.
func (e *Engine) PageAddrs() []string {
	var at []string
	for _, ln := range e.listeners {
		switch {
		case !ln.speaks.pages:
		case ln.speaks.tls:
			at = append(at, "https://"+ln.Addr().String()+"/")
		default:
			at = append(at, "http://"+ln.Addr().String()+"/")
		}
	}
	return at
}
