//go:build !cgo

package impl

// CMalloc tells that this program was built without cgo.
func CMalloc() (Info, bool) { return Info{Name: "cgo-malloc"}, false }
