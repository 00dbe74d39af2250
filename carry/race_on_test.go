//go:build race

package carry_test

const raceEnabled = true
