package ring_test

import (
	"fmt"

	"github.com/timedge/timedge/ring"
)

func Example() {
	r := ring.New([]ring.Member{{Name: "amsterdam"}, {Name: "berlin"}, {Name: "cairo"}, {Name: "delhi", Draining: true}})
	const room = 0x5eed
	for i, m := range r.Chain(room, 4) {
		fmt.Println(i, m.Name)
	}
	// Output:
	// 0 berlin
	// 1 cairo
	// 2 amsterdam
}
