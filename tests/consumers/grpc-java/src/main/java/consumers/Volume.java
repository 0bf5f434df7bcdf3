package consumers;

import io.grpc.util.AdvancedTlsX509KeyManager;
import io.grpc.util.AdvancedTlsX509TrustManager;
import io.grpc.util.AdvancedTlsX509TrustManager.SslSocketAndEnginePeerVerifier;
import io.grpc.util.AdvancedTlsX509TrustManager.Verification;
import java.io.File;
import java.io.IOException;
import java.net.Socket;
import java.security.GeneralSecurityException;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.List;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLEngine;

/** A volume of certagent as gRPC's key and trust managers, which look at the files every minute. */
record Volume(File directory, ScheduledExecutorService executor) {

  AdvancedTlsX509KeyManager keyManager() throws IOException, GeneralSecurityException {
    AdvancedTlsX509KeyManager manager = new AdvancedTlsX509KeyManager();
    // Less than a minute is made a minute.
    manager.updateIdentityCredentials(
        new File(directory, "certificates.pem"),
        new File(directory, "private_key.pem"),
        1, TimeUnit.MINUTES, executor);
    return manager;
  }

  /** Trusts the chain, and lets in one SPIFFE ID only. */
  AdvancedTlsX509TrustManager trustManager(String peer) throws IOException, GeneralSecurityException {
    AdvancedTlsX509TrustManager manager = AdvancedTlsX509TrustManager.newBuilder()
        // No host name: the certificate has none.
        .setVerification(Verification.CERTIFICATE_ONLY_VERIFICATION)
        .setSslSocketAndEnginePeerVerifier(only(peer))
        .build();
    manager.updateTrustCredentials(
        new File(directory, "ca_certificates.pem"), 1, TimeUnit.MINUTES, executor);
    return manager;
  }

  private static SslSocketAndEnginePeerVerifier only(String peer) {
    return new SslSocketAndEnginePeerVerifier() {
      @Override
      public void verifyPeerCertificate(X509Certificate[] chain, String authType, Socket socket)
          throws CertificateException {
        verify(chain[0]);
      }

      @Override
      public void verifyPeerCertificate(X509Certificate[] chain, String authType, SSLEngine engine)
          throws CertificateException {
        verify(chain[0]);
      }

      private void verify(X509Certificate leaf) throws CertificateException {
        // Exactly one name, of kind 6, a URI.
        if (!List.of(List.of(6, peer)).equals(List.copyOf(leaf.getSubjectAlternativeNames()))) {
          throw new CertificateException(
              "the peer is " + leaf.getSubjectAlternativeNames() + ", and only " + peer + " is let in");
        }
      }
    };
  }
}
