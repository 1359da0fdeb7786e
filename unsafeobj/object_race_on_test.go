//go:build race

package unsafeobj

const raceEnabled = true
