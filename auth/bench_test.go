package auth

import (
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkAuthenticate is the time that a hello takes on an event loop, and what a refused one costs the server.
func BenchmarkAuthenticate(b *testing.B) {
	dir := b.TempDir()
	list := filepath.Join(dir, "accounts")
	fileToken, err := Add(list, Account{Name: "alice", Rights: openRights})
	if err != nil {
		b.Fatal(err)
	}
	type of struct{ name, spec, token string }
	kinds := []of{{"kind=open", "open", ""}, {"kind=file", "file:" + list, fileToken}}
	for _, alg := range []string{"HS256", "EdDSA"} {
		keys := filepath.Join(dir, alg)
		if err := AddKey(keys, "2027", alg); err != nil {
			b.Fatal(err)
		}
		token, err := Sign(keys, "", Account{"alice", openRights, noon.Add(time.Hour)}, noon)
		if err != nil {
			b.Fatal(err)
		}
		kinds = append(kinds, of{"kind=jwt/alg=" + alg, "jwt:" + keys, token})
	}
	for _, k := range kinds {
		a := start(b, k.spec)
		run := func(token []byte, ok bool) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := a.Authenticate("alice", token, remote, noon); (err == nil) != ok {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run(k.name+"/token=right", run([]byte(k.token), true))
		if k.token != "" {
			forged := []byte(k.token)
			forged[len(forged)-10] ^= 1 // still base64, or a wrong token anyway
			b.Run(k.name+"/token=forged", run(forged, false))
		}
	}
}

// BenchmarkCurrent is what it takes each session to ask whether it is still allowed.
func BenchmarkCurrent(b *testing.B) {
	dir := b.TempDir()
	list, keys := filepath.Join(dir, "accounts"), filepath.Join(dir, "keys")
	fileToken, err := Add(list, Account{Name: "alice"})
	if err != nil {
		b.Fatal(err)
	}
	if err := AddKey(keys, "2027", "EdDSA"); err != nil {
		b.Fatal(err)
	}
	signed, err := Sign(keys, "", Account{Name: "alice"}, noon)
	if err != nil {
		b.Fatal(err)
	}
	for _, k := range []struct{ name, spec, token string }{{"kind=file", "file:" + list, fileToken}, {"kind=jwt", "jwt:" + keys, signed}} {
		id, err := start(b, k.spec).Authenticate("alice", []byte(k.token), remote, noon)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(k.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := id.Current(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
