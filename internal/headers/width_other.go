//go:build !wasm

package headers

const onWasm = 0
