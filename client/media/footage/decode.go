package footage

import (
	"bytes"
	"os/exec"
	"strings"
)

// Complaints decodes a file from memory and returns what the decoder says, line by line; "": nothing.
func Complaints(b []byte) string {
	cmd := exec.Command("ffmpeg", "-v", "error", "-i", "pipe:0", "-f", "null", "-")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out) + err.Error() + "\n"
	}
	return string(out)
}

// Faults decodes what a late joiner got of an input and returns what a decoder says that is the pusher's fault: not what it says
// of the whole, too, and not what the container makes it say.
func (in *Input) Faults(late, whole []byte) (lines []string) {
	said := ""
	if in.Damaged {
		said = Complaints(whole)
	}
	for line := range strings.Lines(Complaints(late)) {
		switch words := firstWords(line); {
		case in.Damaged && (strings.Contains(said, words) || words == "exit status"): // of most that decodes the larger part may be damaged
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
