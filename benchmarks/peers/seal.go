package main

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/load"
	"github.com/timedge/timedge/tools/loadgen/report"
)

// sealCost measures what AES-128-GCM alone takes of a processor for each byte of full TLS records, in ns.
func sealCost() float64 {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err) // the key has a right length
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	const record, records = 16 << 10, 64
	plain, sealed, nonce := make([]byte, record*records), make([]byte, 0, record+64), make([]byte, gcm.NonceSize())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n, from := 0, threadTime()
	for wall := time.Now(); time.Since(wall) < 200*time.Millisecond; n++ {
		nonce[0], nonce[1] = byte(n), byte(n>>8)
		at := n % records * record
		sealed = gcm.Seal(sealed[:0], nonce, plain[at:at+record], nonce[:5])
	}
	return float64(threadTime()-from) / float64(n) / record
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// sealed sets what carriers cost beside plain TCP and beside plain TCP with bare sealing, from the same rounds.
func (b *bench) sealed(w io.Writer, outcomes []outcome) {
	kinds := slices.DeleteFunc(slices.Clone(cli.Targets), func(t string) bool {
		name, kind := split(t)
		return name != "timedge" || kind == ""
	})
	if len(kinds) == 0 || !slices.Contains(cli.Targets, "timedge") || !has("throughput") {
		return
	}
	cost := func(j *job, target string) (ns []float64) {
		for _, o := range outcomes {
			if o.job == j && o.target == target && o.result != nil {
				ns = append(ns, o.result.Server.PerDelivery)
			}
		}
		return ns
	}
	fmt.Fprintf(w, "\nWhat carriers cost: server CPU per delivery against plain TCP, and, with TLS, against plain TCP "+
		"and sealing the same bytes by AES-128-GCM alone (%.2f ns a byte)\n\n| load | plain | sealing |",
		median(b.seals))
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k)
	}
	fmt.Fprint(w, "\n| --- | --- | --- |")
	for range kinds {
		fmt.Fprint(w, " --- |")
	}
	fmt.Fprintln(w)
	var seen []*job
	for _, o := range outcomes {
		if o.job.part != "throughput" || slices.Contains(seen, o.job) {
			continue
		}
		seen = append(seen, o.job)
		plain := median(cost(o.job, "timedge"))
		seal := median(b.seals) * float64(payload(&o.job.cfg)+codec.StreamHeaderSize)
		fmt.Fprintf(w, "| %s | %s | %s |", b.name(o.job), report.Nanos(plain), report.Nanos(seal))
		for _, k := range kinds {
			ns := median(cost(o.job, k))
			if ns == 0 || plain == 0 {
				fmt.Fprint(w, " - |")
				continue
			}
			fmt.Fprintf(w, " %s, %.2fx", report.Nanos(ns), ns/plain)
			if _, kind := split(k); kind != "ws" {
				fmt.Fprintf(w, ", %.2fx with sealing", ns/(plain+seal))
			}
			fmt.Fprint(w, " |")
		}
		fmt.Fprintln(w)
	}
}

// paced sets what carriers cost beside plain TCP where every message goes out by itself.
func (b *bench) paced(w io.Writer, outcomes []outcome) {
	if !has("paced") || !slices.Contains(cli.Targets, "timedge") {
		return
	}
	of := func(j *job, target string, f func(*load.Result) float64) float64 {
		var v []float64
		for _, o := range outcomes {
			if o.job == j && o.target == target && o.result != nil {
				v = append(v, f(o.result))
			}
		}
		return median(v)
	}
	cpu := func(r *load.Result) float64 { return r.Server.PerDelivery }
	p99 := func(r *load.Result) float64 { return float64(r.Healthy().Latency.P99) }
	fmt.Fprint(w, "\nThe same against plain TCP: server CPU, p99\n\n")
	var seen []*job
	for _, o := range outcomes {
		if o.job.part != "paced" || slices.Contains(seen, o.job) {
			continue
		}
		seen = append(seen, o.job)
		var texts []string
		for _, t := range cli.Targets {
			name, kind := split(t)
			if base := of(o.job, "timedge", cpu); name == "timedge" && kind != "" && base > 0 {
				texts = append(texts, fmt.Sprintf("%s %.2fx, %.2fx", kind, of(o.job, t, cpu)/base, of(o.job, t, p99)/of(o.job, "timedge", p99)))
			}
		}
		fmt.Fprintf(w, "- %s: %s\n", b.name(o.job), strings.Join(texts, "; "))
	}
}
