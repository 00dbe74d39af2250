package main

import (
	"cmp"
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
	"github.com/timedge/timedge/tools/loadgen/over"
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

// carriers sets what TLS and WebSocket cost beside plain TCP. A machine that others share is slower at one time than at
// another, by half and more. So a load is run on all targets one right after the other, and what is compared is those
// runs: the figures are medians of the rounds' ratios.
func (b *bench) carriers(w io.Writer, outcomes []outcome) {
	kinds := slices.DeleteFunc(own(cli.Targets), func(t string) bool { return t == plain })
	if len(kinds) == 0 || !slices.Contains(cli.Targets, plain) {
		return
	}
	of := make(map[pair]map[string]*load.Result)
	var jobs []*job
	for _, o := range outcomes {
		if o.job.part != "throughput" && o.job.part != "paced" || o.result == nil {
			continue
		}
		if !slices.Contains(jobs, o.job) {
			jobs = append(jobs, o.job)
		}
		p := pair{o.job, o.round}
		if of[p] == nil {
			of[p] = make(map[string]*load.Result)
		}
		of[p][o.target] = o.result
	}
	if len(jobs) == 0 {
		return
	}
	slices.SortFunc(jobs, func(a, b *job) int {
		return cmp.Or(strings.Compare(b.part, a.part), slices.Compare(a.order(), b.order()))
	})
	fmt.Fprintf(w, "\nWhat carriers cost, of %d rounds: server CPU per delivery against plain TCP; for TLS also against plain TCP "+
		"and sealing the same bytes by AES-128-GCM alone; for paced loads p99 against plain TCP\n\n| load | plain | sealing |",
		cli.Rounds+cli.More)
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k)
	}
	fmt.Fprintln(w, "\n| --- | --- | --- |"+strings.Repeat(" --- |", len(kinds)))
	for _, j := range jobs {
		var alone, sealing []float64
		for round := range cli.Rounds + cli.More {
			if r := of[pair{j, round}][plain]; r != nil {
				alone = append(alone, r.Server.PerDelivery)
				sealing = append(sealing, b.seals[pair{j, round}]*sealed(j))
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s |", b.name(j), report.Nanos(median(alone)), report.Nanos(median(sealing)))
		for _, k := range kinds {
			var cpu, bound, tail []float64
			for round := range cli.Rounds + cli.More {
				p := pair{j, round}
				r, base := of[p][k], of[p][plain]
				if r == nil || base == nil {
					continue
				}
				cpu = append(cpu, r.Server.PerDelivery/base.Server.PerDelivery)
				bound = append(bound, r.Server.PerDelivery/(base.Server.PerDelivery+b.seals[p]*sealed(j)))
				tail = append(tail, float64(r.Healthy().Latency.P99)/float64(base.Healthy().Latency.P99))
			}
			if len(cpu) == 0 {
				fmt.Fprint(w, " - |")
				continue
			}
			fmt.Fprintf(w, " %.2fx", median(cpu))
			if _, kind := split(k); kind != over.WS && j.part == "throughput" {
				fmt.Fprintf(w, ", %.2fx with sealing", median(bound))
			}
			if j.part == "paced" {
				fmt.Fprintf(w, ", p99 %.2fx", median(tail))
			}
			fmt.Fprint(w, " |")
		}
		fmt.Fprintln(w)
	}
}

// plain is timedge without a carrier.
const plain = "timedge"

// sealed is how many bytes a delivery of a job has that TLS would seal.
func sealed(j *job) float64 { return float64(payload(&j.cfg) + codec.StreamHeaderSize) }
