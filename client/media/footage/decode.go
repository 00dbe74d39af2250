package footage

import (
	"os"
	"os/exec"
	"strings"
)

// Complaints decodes b, as a file in dir that a decoder can look around in, and returns what it says, line by line; "":
// nothing.
func Complaints(dir string, b []byte) string {
	f, err := os.CreateTemp(dir, "decoded-*")
	if err != nil {
		return err.Error() + "\n"
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Close()
	}
	if err != nil {
		return err.Error() + "\n"
	}
	out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-i", f.Name(), "-f", "null", "-").CombinedOutput()
	said := strings.ReplaceAll(string(out), f.Name(), "input")
	if err != nil {
		said += err.Error() + "\n"
	}
	return said
}

// Faults decodes what a late joiner got of an input, with files in dir, and returns what a decoder says that is the
// pusher's fault: not what it says of the whole, too, and not what the container makes it say.
func (in *Input) Faults(dir string, late, whole []byte) (lines []string) {
	said := ""
	if in.Damaged {
		said = Complaints(dir, whole)
	}
	for line := range strings.Lines(Complaints(dir, late)) {
		switch words := firstWords(line); {
		case in.Damaged &&
			(strings.Contains(said, words) || words == "exit status"): // of most that decodes the larger part may be damaged
		case in.Sized && strings.Contains(line, "File ended prematurely"):
		case in.OpenGOPs && strings.Contains(line, "mmco: unref short failure"):
		default:
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// firstWords returns what of a line is the same wherever it is said: not who says it, nor of what place.
func firstWords(line string) string {
	if _, rest, ok := strings.Cut(line, "] "); ok {
		line = rest
	}
	words := strings.Fields(line)
	return strings.Join(words[:min(2, len(words))], " ")
}
