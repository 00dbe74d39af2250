package client

// RaceEnabled is for the tests in package client_test.
const RaceEnabled = raceEnabled
