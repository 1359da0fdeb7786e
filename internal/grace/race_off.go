//go:build !race

package grace

// See race.go.
func ended(int) {}
func waited()   {}
