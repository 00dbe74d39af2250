package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemo runs all of it, with a short video.
func TestDemo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "timedge")
	if out, err := exec.Command("go", "build", "-o", program, "../..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var out, complaints bytes.Buffer
	status := run(t.Context(), &out, &complaints, []string{"-seconds", "4", "-timedge", program})
	t.Logf("\n%s%s", &out, &complaints)
	if status != exitOK || complaints.Len() > 0 {
		t.Fatalf("exit status %d", status)
	}
	for _, want := range []string{"kill -9 n", "frames lost                                         0                0", "Nothing was lost"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing on the screen says %q", want)
		}
	}
}

// TestConclude: whatever a viewer has less than all is said, and is an error.
func TestConclude(t *testing.T) {
	v := &video{pictures: 10}
	whole := seen{name: "ann", frames: 12, identical: true, pictures: 10}
	for name, spoil := range map[string]func(*seen){
		"lost":      func(s *seen) { s.lost = map[string]uint64{"lost": 3, "slow": 1} },
		"twice":     func(s *seen) { s.twice = 1 },
		"nothing":   func(s *seen) { s.frames = 0 },
		"other":     func(s *seen) { s.identical = false },
		"pictures":  func(s *seen) { s.pictures-- },
		"decoder":   func(s *seen) { s.faults++ },
		"cut short": func(s *seen) { s.err = bytes.ErrTooLarge },
	} {
		t.Run(name, func(t *testing.T) {
			s := whole
			spoil(&s)
			var out bytes.Buffer
			if err := conclude(&out, relay{"n1", 1}, relay{"n2", 2}, v, []seen{whole, s}); err == nil || strings.Contains(out.String(), "Nothing was lost") {
				t.Errorf("error %v after\n%s", err, &out)
			}
			if name == "lost" && !strings.Contains(out.String(), "3 lost, 1 slow") {
				t.Errorf("it does not say what was lost:\n%s", &out)
			}
		})
	}
	var out bytes.Buffer
	if err := conclude(&out, relay{"n1", 1}, relay{"n2", 2}, v, []seen{whole, whole}); err != nil || !strings.Contains(out.String(), "Nothing was lost") {
		t.Errorf("error %v after\n%s", err, &out)
	}
}
