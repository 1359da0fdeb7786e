//go:build !linux

package grace

// Barrier reports false: there is none.
func Barrier() bool { return false }
