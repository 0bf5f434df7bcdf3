// go-spiffe on a volume: a source that reads the files for each handshake, a server and a client.
// The client asks for ever, and prints a line for each request, as count.py wants them.
//
//	go-spiffe SERVER_VOLUME CLIENT_VOLUME
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// volume is a source of go-spiffe: its files are read whenever they are needed, so a rotation needs
// nothing more.
type volume string

// GetX509SVID implements x509svid.Source.
func (v volume) GetX509SVID() (*x509svid.SVID, error) {
	// One generation: key and certificate of two would not fit.
	generation, err := filepath.EvalSymlinks(filepath.Join(string(v), "..data"))
	if err != nil {
		return nil, err
	}
	return x509svid.Load(filepath.Join(generation, "certificates.pem"), filepath.Join(generation, "private_key.pem"))
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (v volume) GetX509BundleForTrustDomain(domain spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	bundles, err := v.bundles()
	if err != nil {
		return nil, err
	}
	return bundles.GetX509BundleForTrustDomain(domain)
}

// go-spiffe has no parser of the whole map, only of one trust domain's bundle.
func (v volume) bundles() (*spiffebundle.Set, error) {
	text, err := os.ReadFile(filepath.Join(string(v), "trust_bundles.json"))
	if err != nil {
		return nil, err
	}
	var file struct {
		TrustDomains map[string]json.RawMessage `json:"trust_domains"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	set := spiffebundle.NewSet()
	for name, raw := range file.TrustDomains {
		domain, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, err
		}
		bundle, err := spiffebundle.Parse(domain, raw)
		if err != nil {
			return nil, fmt.Errorf("bundle of %s: %w", name, err)
		}
		set.Add(bundle)
	}
	return set, nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go-spiffe SERVER_VOLUME CLIENT_VOLUME")
	}
	server, client := volume(os.Args[1]), volume(os.Args[2])
	domain := spiffeid.RequireTrustDomainFromString("demo-project.svc.id.goog")
	serverID := spiffeid.RequireFromPath(domain, "/ns/default/sa/server")
	clientID := spiffeid.RequireFromPath(domain, "/ns/default/sa/client")

	serverConfig := tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeID(clientID))
	clientConfig := tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(serverID))

	listener, err := tls.Listen("tcp", "127.0.0.1:8443", serverConfig)
	if err != nil {
		log.Fatal(err)
	}
	go serve(listener)
	for range time.Tick(200 * time.Millisecond) {
		if seen, err := request(clientConfig); err != nil {
			fmt.Println("failed", err)
		} else {
			fmt.Println("ok", seen)
		}
	}
}

// serve answers with the serial of the certificate that the client showed.
func serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer connection.Close()
			secured := connection.(*tls.Conn)
			if err := secured.Handshake(); err != nil {
				log.Print(err)
				return
			}
			fmt.Fprint(secured, serial(secured.ConnectionState().PeerCertificates))
		}()
	}
}

func request(config *tls.Config) (string, error) {
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", "127.0.0.1:8443", config)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	answer, err := io.ReadAll(connection)
	if err != nil {
		return "", err
	}
	if len(answer) == 0 {
		return "", errors.New("the server said nothing")
	}
	return fmt.Sprintf("server=%s client=%s", serial(connection.ConnectionState().PeerCertificates), answer), nil
}

func serial(chain []*x509.Certificate) string {
	return fmt.Sprintf("%x", chain[0].SerialNumber)
}
