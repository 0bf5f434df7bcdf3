// A pair of grpc-go without a control plane: advancedtls, fed by pemfile, which polls the files.
//
//	grpc-go-advancedtls server|client ADDRESS VOLUME PEER_SPIFFE_ID
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	"certagent/consumers/requests"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
	"google.golang.org/grpc/security/advancedtls"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: grpc-go-advancedtls server|client ADDRESS VOLUME PEER_SPIFFE_ID")
	}
	address := os.Args[2]
	options, err := options(os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "server":
		creds, err := advancedtls.NewServerCreds(options)
		if err != nil {
			log.Fatal(err)
		}
		log.Fatal(requests.Serve(grpc.NewServer(grpc.Creds(creds)), address))
	case "client":
		creds, err := advancedtls.NewClientCreds(options)
		if err != nil {
			log.Fatal(err)
		}
		requests.Forever(func() (*grpc.ClientConn, error) {
			return grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		})
	}
}

func options(volume, peer string) (*advancedtls.Options, error) {
	files, err := pemfile.NewProvider(pemfile.Options{
		CertFile:        volume + "/certificates.pem",
		KeyFile:         volume + "/private_key.pem",
		RootFile:        volume + "/ca_certificates.pem",
		RefreshDuration: time.Second,
	})
	if err != nil {
		return nil, err
	}
	return &advancedtls.Options{
		IdentityOptions:   advancedtls.IdentityCertificateOptions{IdentityProvider: files},
		RootOptions:       advancedtls.RootCertificateOptions{RootProvider: files},
		RequireClientCert: true,
		// The chain, and no host name: the certificate has none.
		VerificationType: advancedtls.CertVerification,
		AdditionalPeerVerification: func(info *advancedtls.HandshakeVerificationInfo) (*advancedtls.PostHandshakeVerificationResults, error) {
			if uris := info.Leaf.URIs; len(uris) != 1 || uris[0].String() != peer {
				return nil, fmt.Errorf("the peer is %v, and only %s is let in", uris, peer)
			}
			return &advancedtls.PostHandshakeVerificationResults{}, nil
		},
	}, nil
}
