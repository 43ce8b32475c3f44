package main

import (
	"crypto/tls"
	"os"
)

func main() {
	connection, err := tls.Dial("tcp", os.Args[1], nil)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	connection.Close()
}
