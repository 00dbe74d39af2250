package media_test

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/timedge/timedge/client/media"
)

func ExampleNewSplitter() {
	file, err := os.Open("testdata/sample.ts")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()

	s, err := media.NewSplitter(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Format())
	for {
		u, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(u.Kind, len(u.Data))
	}
	// Output:
	// MPEG-TS
	// init 564
	// init 2256
	// key 564
	// delta 1692
	// delta 376
	// init 376
	// key 1504
	// delta 1504
	// delta 564
	// delta 940
}
