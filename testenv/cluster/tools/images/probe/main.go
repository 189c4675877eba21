// Probe looks at the cluster from inside a pod, where neither a shell nor curl is at hand.
//
//	probe get URL              print the body of a GET, its status on standard error; exit 1 unless that is 2xx
//	probe post URL BODY        the same for a POST of JSON
//	probe fetch URL FILE       write the body of a GET to FILE
//	probe lookup NAME          print the addresses of NAME, one a line
//	probe connect HOST:PORT    open a connection and close it; exit 1 where that takes three seconds or is refused
//	probe write FILE TEXT      write TEXT to FILE, which shows whether a volume is writable for the pod's user
//	probe read FILE            print FILE
//	probe wait                 stay until SIGTERM: the target of `kubectl exec`
//
// `--ca FILE` before the verb names the roots that https is verified with. A request may take two minutes.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	roots := flag.String("ca", "", "file of the roots that https is verified with")
	flag.Parse()
	if err := run(*roots, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(roots string, args []string) error {
	verb := strings.Join(args[:min(1, len(args))], "")
	switch {
	case verb == "get" && len(args) == 2:
		return call(roots, http.MethodGet, args[1], "", os.Stdout)
	case verb == "fetch" && len(args) == 3:
		file, err := os.Create(args[2])
		if err != nil {
			return err
		}
		return errors.Join(call(roots, http.MethodGet, args[1], "", file), file.Close())
	case verb == "post" && len(args) == 3:
		return call(roots, http.MethodPost, args[1], args[2], os.Stdout)
	case verb == "lookup" && len(args) == 2:
		addresses, err := net.LookupHost(args[1])
		fmt.Println(strings.Join(addresses, "\n"))
		return err
	case verb == "connect" && len(args) == 2:
		connection, err := net.DialTimeout("tcp", args[1], 3*time.Second)
		if err != nil {
			return err
		}
		return connection.Close()
	case verb == "write" && len(args) == 3:
		return os.WriteFile(args[1], []byte(args[2]), 0o600)
	case verb == "read" && len(args) == 2:
		text, err := os.ReadFile(args[1])
		os.Stdout.Write(text)
		return err
	case verb == "wait" && len(args) == 1:
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		return nil
	}
	return fmt.Errorf("%q is none of: get URL, post URL BODY, fetch URL FILE, lookup NAME, connect HOST:PORT, write FILE TEXT, read FILE, wait", args)
}

func call(roots, method, url, body string, output io.Writer) error {
	client := &http.Client{Timeout: 2 * time.Minute}
	if roots != "" {
		pem, err := os.ReadFile(roots)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return errors.New("no certificate in " + roots)
		}
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	fmt.Fprintln(os.Stderr, answer.Status)
	if _, err := io.Copy(output, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return errors.New(method + " " + url + " gave " + answer.Status)
	}
	return nil
}
