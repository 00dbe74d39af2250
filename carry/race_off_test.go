//go:build !race

package carry_test

const raceEnabled = false
