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
	// key 1880
	// delta 564
	// delta 1692
	// delta 564
	// init 564
	// key 1128
	// delta 1504
	// delta 564
	// delta 1316
}
