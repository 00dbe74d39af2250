package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var when = time.Unix(1790000000, 0).UTC()

// TestArchives: what goes in comes out, twice the same bytes, and wherever and by whomever it is made.
func TestArchives(t *testing.T) {
	files := []file{{name: "x/LICENSE", mode: 0o644, body: []byte("terms")}, {name: "x/timedge", mode: 0o755, body: bytes.Repeat([]byte("code"), 1000)}}
	for name, write := range map[string]func(io.Writer, []file, time.Time) error{"tar": tarGz, "zip": zipped} {
		t.Run(name, func(t *testing.T) {
			var a, b bytes.Buffer
			if err := write(&a, files, when); err != nil {
				t.Fatal(err)
			}
			if err := write(&b, files, when.In(time.FixedZone("elsewhere", 3600))); err != nil {
				t.Fatal(err)
			}
			if name == "tar" && !bytes.Equal(a.Bytes(), b.Bytes()) {
				t.Error("two archives of the same files differ")
			}
			got := map[string]string{}
			if name == "zip" {
				r, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range r.File {
					body, err := f.Open()
					if err != nil {
						t.Fatal(err)
					}
					all, _ := io.ReadAll(body)
					got[f.Name] = f.Mode().String() + string(all)
				}
			} else {
				z, err := gzip.NewReader(&a)
				if err != nil {
					t.Fatal(err)
				}
				for r := tar.NewReader(z); ; {
					h, err := r.Next()
					if err == io.EOF {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					all, _ := io.ReadAll(r)
					if !h.ModTime.Equal(when) || h.Uname != "" || h.Uid != 0 {
						t.Errorf("%s is of %v and %q", h.Name, h.ModTime, h.Uname)
					}
					got[h.Name] = h.FileInfo().Mode().String() + string(all)
				}
			}
			for _, f := range files {
				if want := f.mode.String() + string(f.body); got[f.name] != want {
					t.Errorf("%s is %.30q, want %.30q", f.name, got[f.name], want)
				}
			}
		})
	}
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := checksums(dir); err != nil {
		t.Fatal(err)
	}
	const want = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n" +
		"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b\n"
	if b, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS")); err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

// TestSettle: a bill of materials bears the commit's time, whenever it was made, and does not say where.
func TestSettle(t *testing.T) {
	doc := `{"serialNumber":"urn:uuid:1","metadata":{"timestamp":"2020-01-01T00:00:00Z"},"components":[{"name":"a<b"}]}`
	b, err := settle([]byte(doc), "timedge", when)
	if err != nil || strings.Contains(string(b), "2020") || strings.Contains(string(b), "serial") || !strings.Contains(string(b), "a<b") ||
		!strings.Contains(string(b), when.Format(time.RFC3339)) {
		t.Errorf("%s, %v", b, err)
	}
	for name, doc := range map[string]string{
		"no document": "[]", "empty": "{}", "a place": `{"metadata":{"path":"` + os.TempDir() + `/release1/x"},"components":[]}`,
	} {
		if _, err := settle([]byte(doc), "timedge", when); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
