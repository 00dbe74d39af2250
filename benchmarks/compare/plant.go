package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The planted slowdown makes every write of the fan-out take a quarter longer, by waiting busily after the system call,
// so that a delivery, most of which is the write, costs a fifth more. It is how the comparison itself is tested; it is
// built from an overlay and never touches the tree.
const (
	plantFile   = "engine/write.go"
	plantBefore = "r, _, errno := unix.RawSyscall(unix.SYS_WRITEV"
	plantPre    = "plantedBegin := time.Now()\n\t\t"
	// A call during which the thread lost its processor took long without doing more: what it may have taken is bounded.
	plantPost = "\n\t\tplanted := time.Since(plantedBegin)\n" +
		"\t\tfor end := planted + min(planted, 5*time.Microsecond+time.Duration(want*3/5))/4; time.Since(plantedBegin) < end; {\n\t\t}"
)

// plant writes the changed file and the overlay that puts it in place, and returns the overlay.
func plant(root, tmp string) (string, error) {
	file := filepath.Join(root, plantFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	src := string(b)
	at := strings.Index(src, plantBefore)
	if at < 0 {
		return "", fmt.Errorf("%s has no line %q any more: tell plant.go where the fan-out writes", plantFile, plantBefore)
	}
	end := at + strings.IndexByte(src[at:], '\n')
	src = src[:at] + plantPre + src[at:end] + plantPost + src[end:]
	if !strings.Contains(src, "\t\"time\"\n") {
		src = strings.Replace(src, "import (\n", "import (\n\t\"time\"\n", 1)
	}
	changed, overlay := filepath.Join(tmp, "planted.go"), filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(changed, []byte(src), 0o644); err != nil {
		return "", err
	}
	j, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, j, 0o644)
}
