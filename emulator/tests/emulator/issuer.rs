//! An issuer of tokens, as a Kubernetes API server or a key file's owner is one.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKey, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

pub(crate) struct Issuer {
    kid: &'static str,
    key: Key,
}

enum Key {
    Rsa(RsaKey),
    Ec(&'static str, &'static str, EcdsaKeyPair),
}

impl Issuer {
    pub(crate) fn rsa(kid: &'static str) -> Self {
        let key = Key::Rsa(RsaKey::generate(KeySize::Rsa2048).unwrap());
        Self { kid, key }
    }

    pub(crate) fn p256(kid: &'static str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = Key::Ec("ES256", "P-256", key);
        Self { kid, key }
    }

    pub(crate) fn p384(kid: &'static str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let key = Key::Ec("ES384", "P-384", key);
        Self { kid, key }
    }

    fn algorithm(&self) -> &'static str {
        match &self.key {
            Key::Rsa(_) => "RS256",
            Key::Ec(name, ..) => name,
        }
    }

    /// The public key as PKCS#1 or as an uncompressed point.
    pub(crate) fn public(&self) -> &[u8] {
        match &self.key {
            Key::Rsa(key) => key.public_key().as_ref(),
            Key::Ec(_, _, key) => key.public_key().as_ref(),
        }
    }

    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk()] })
    }

    pub(crate) fn jwk(&self) -> Value {
        let base = json!({ "kid": self.kid, "alg": self.algorithm(), "use": "sig" });
        let more = match &self.key {
            Key::Rsa(_) => {
                let (_, key) = RSAPublicKey::from_der(self.public()).unwrap();
                // DER has a zero before a modulus whose highest bit is set; JWK does not.
                let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
                json!({ "kty": "RSA", "n": base64url(modulus), "e": base64url(key.exponent) })
            }
            Key::Ec(_, curve, _) => {
                let (x, y) = self.public()[1..].split_at(self.public().len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
        };
        merged(base, more)
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        self.sign_as(&header, claims)
    }

    /// With a header that may lie.
    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signature = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Key::Ec(_, _, key) => {
                let signature = key.sign(&SystemRandom::new(), message.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
        };
        format!("{message}.{}", base64url(signature))
    }
}

/// Header and claims of a token, without the dot before the signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let parts = [header, claims].map(|part| base64url(part.to_string()));
    parts.join(".")
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `base` with the members of `more` over its own; null takes one away.
pub(crate) fn merged(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("not an object: {more}");
    };
    for (name, value) in more {
        let object = base.as_object_mut().unwrap();
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
    base
}
