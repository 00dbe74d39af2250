package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestScenariosAreValid(t *testing.T) {
	if len(Names()) == 0 {
		t.Fatal("no scenarios")
	}
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.Addr = "127.0.0.1:7400"
		if name == "failover" {
			s.KillPID = 1 // only the user can say
		}
		s.SetDefaults()
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.About == "" || s.Scenario != name {
			t.Errorf("%s: about %q, scenario %q", name, s.About, s.Scenario)
		}
	}
}

func TestOwnFiles(t *testing.T) {
	dir := t.TempDir()
	cases := []struct{ name, text, want string }{
		{"good.toml", "about = \"mine\"\nsubscribers = 3\nduration = \"2s\"\n[[stream]]\npayload = 64\nrate = 10.5\n", ""},
		{"unknown.toml", "subscriber = 3\n", "unknown keys"},
		{"broken.toml", "subscribers = \n", "broken.toml"},
	}
	for _, c := range cases {
		file := filepath.Join(dir, c.name)
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(file)
		if c.want == "" {
			if err != nil || s.Subscribers != 3 || s.Duration.Seconds() != 2 || s.Streams[0].Rate != 10.5 || s.Name != "good" {
				t.Errorf("%s: %+v, %v", c.name, s, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := Load("nothing-of-this-name"); err == nil || !strings.Contains(err.Error(), "fan-out") {
		t.Errorf("an unknown name gives %v, which should list the known ones", err)
	}
}
