package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
)

// Who has to wait for a place at the gate for longer than the hello may take is not cut off for that, before the
// handshake or after it.
func TestGateWaitIsNobodysTime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("somebody waits for some seconds")
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	const hello = 3 * time.Second
	e, err := Start(Config{
		ListenTLS: []string{"127.0.0.1:0"}, TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}},
		Loops: 1, Node: "test", Log: zerolog.Nop(), HelloTimeout: hello,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = e.Shutdown(ctx)
	}()
	if !e.gate.enter() {
		t.Fatal("the gate is closed")
	}
	go func() {
		<-time.After(hello + time.Second)
		e.gate.leave(0)
	}()
	c, err := tls.Dial("tcp", e.Addrs()[0].String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal("cut off in the handshake: ", err)
	}
	defer c.Close()
	b, err := (&codec.Hello{Account: "ann", Instance: 1}).Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	answer := make([]byte, codec.PrefaceSize+codec.LengthSize+1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[len(answer)-1] != codec.TypeWelcome {
		t.Errorf("answered with %x, %v", answer, err)
	}
	silent, err := net.Dial("tcp", e.Addrs()[0].String()) // who says nothing waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := silent.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a silent one is kept: %d, %v", n, err)
	}
}
