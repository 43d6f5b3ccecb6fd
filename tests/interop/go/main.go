// One SSH connection with golang.org/x/crypto/ssh; what it saw is printed as one JSON line. The flags and the line
// are those of the Rust program beside it, see ../kit/programs.py.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

const keptBytes = 64 * 1024

type report struct {
	KeyExchanges     int32    `json:"key_exchanges"`
	Kex              string   `json:"kex"`
	HostKeyAlgorithm string   `json:"host_key_algorithm"`
	HostKey          string   `json:"host_key"`
	Cipher           string   `json:"cipher"`
	Mac              string   `json:"mac"`
	GlobalReplies    []string `json:"global_replies"`
	ExitStatus       *int     `json:"exit_status"`
	StdoutBytes      int64    `json:"stdout_bytes"`
	StdoutSha256     string   `json:"stdout_sha256"`
	Stdout           string   `json:"stdout"`
	Stderr           string   `json:"stderr"`
	Error            string   `json:"error"`
}

type options struct {
	host, user, password, key      string
	port                           int
	mode, command, input           string
	pty                            bool
	rekey                          uint64
	kex, cipher, mac, hostKey, sig string
	globals                        int
}

// sink hashes everything and keeps the beginning.
type sink struct {
	hash hash.Hash
	size int64
	kept bytes.Buffer
}

func newSink() *sink { return &sink{hash: sha256.New()} }

func (s *sink) Write(p []byte) (int, error) {
	s.hash.Write(p)
	s.size += int64(len(p))
	if room := keptBytes - s.kept.Len(); room > 0 {
		s.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func credential(o options) (ssh.AuthMethod, error) {
	if o.key == "" {
		return ssh.Password(o.password), nil
	}
	pem, err := os.ReadFile(o.key)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, err
	}
	if o.sig != "" {
		signer, err = ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), list(o.sig))
		if err != nil {
			return nil, err
		}
	}
	return ssh.PublicKeys(signer), nil
}

func connect(o options, seen *report) (*ssh.Client, error) {
	auth, err := credential(o)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User:              o.user,
		Auth:              []ssh.AuthMethod{auth},
		HostKeyAlgorithms: list(o.hostKey),
		// Called in every key exchange, so it counts them too.
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen.HostKey = ssh.FingerprintSHA256(key)
			atomic.AddInt32(&seen.KeyExchanges, 1)
			return nil
		},
	}
	config.RekeyThreshold = o.rekey
	config.KeyExchanges = list(o.kex)
	config.Ciphers = list(o.cipher)
	config.MACs = list(o.mac)
	client, err := ssh.Dial("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)), config)
	if err != nil {
		return nil, err
	}
	if conn, ok := client.Conn.(ssh.AlgorithmsConnMetadata); ok {
		names := conn.Algorithms()
		seen.Kex, seen.HostKeyAlgorithm = names.KeyExchange, names.HostKey
		seen.Cipher, seen.Mac = names.Write.Cipher, names.Write.MAC
	}
	return client, nil
}

// ask sends global requests at once, each from its own goroutine; each must be answered.
func ask(client *ssh.Client, count int, seen *report) error {
	var wait sync.WaitGroup
	var lock sync.Mutex
	var failed error
	for range count {
		wait.Go(func() {
			ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
			lock.Lock()
			defer lock.Unlock()
			failed = errors.Join(failed, err)
			seen.GlobalReplies = append(seen.GlobalReplies, map[bool]string{true: "success", false: "failure"}[ok])
		})
	}
	wait.Wait()
	return failed
}

func start(session *ssh.Session, o options) error {
	if o.pty {
		if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
			return err
		}
	}
	if o.mode == "shell" {
		return session.Shell()
	}
	return session.Start(o.command)
}

func run(client *ssh.Client, o options, seen *report) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	stdout, stderr := newSink(), newSink()
	session.Stdout, session.Stderr = stdout, stderr
	if o.input != "" {
		file, err := os.Open(o.input)
		if err != nil {
			return err
		}
		defer file.Close()
		session.Stdin = file
	}
	if err := start(session, o); err != nil {
		return err
	}
	err = session.Wait()
	seen.StdoutBytes, seen.StdoutSha256 = stdout.size, hex.EncodeToString(stdout.hash.Sum(nil))
	seen.Stdout, seen.Stderr = stdout.kept.String(), stderr.kept.String()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		seen.ExitStatus = new(int)
	case errors.As(err, &exit):
		status := exit.ExitStatus()
		seen.ExitStatus = &status
	default:
		return err
	}
	return nil
}

func work(o options, seen *report) error {
	client, err := connect(o, seen)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := ask(client, o.globals, seen); err != nil {
		return err
	}
	return run(client, o, seen)
}

func main() {
	var o options
	flag.StringVar(&o.host, "host", "127.0.0.1", "where to connect")
	flag.IntVar(&o.port, "port", 22, "")
	flag.StringVar(&o.user, "user", "", "")
	flag.StringVar(&o.password, "password", "", "")
	flag.StringVar(&o.key, "key", "", "private key file, instead of the password")
	flag.StringVar(&o.sig, "sig", "", "signature algorithms for the key")
	flag.StringVar(&o.mode, "mode", "exec", "exec or shell")
	flag.StringVar(&o.command, "command", "", "what exec runs")
	flag.StringVar(&o.input, "input", "", "file that is sent as standard input")
	flag.BoolVar(&o.pty, "pty", false, "ask for a terminal first")
	flag.Uint64Var(&o.rekey, "rekey", 0, "exchange keys again after so many bytes")
	flag.StringVar(&o.kex, "kex", "", "algorithms to offer; none: the library's own list")
	flag.StringVar(&o.cipher, "cipher", "", "")
	flag.StringVar(&o.mac, "mac", "", "")
	flag.StringVar(&o.hostKey, "hostkey", "", "")
	flag.IntVar(&o.globals, "globals", 0, "keepalive requests to send first")
	flag.Parse()
	seen := &report{}
	if err := work(o, seen); err != nil {
		seen.Error = err.Error()
	}
	line, err := json.Marshal(seen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}
