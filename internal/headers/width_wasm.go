package headers

const onWasm = 1
