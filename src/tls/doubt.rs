//! Why a connection is not intercepted, and for how long that is remembered.

use std::io;
use std::time::Duration;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Why a connection is passed through; the value of `sidetrace.passthrough.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The client asks for no name that a certificate could have.
    Name,
    /// rustls does not understand the ClientHello.
    NotUnderstood,
    /// We could not meet what the client offers: too old, or of a kind that we do not speak.
    Offer,
    /// A file that a rule names cannot be used.
    Files,
    /// No certificate could be made for it.
    Unissued,
    /// Too many new names in too short a time.
    RateLimited,
    /// This client has refused our certificate.
    ClientRefuses,
    /// Upstream's certificate is expired.
    Expired,
    /// It is not valid yet.
    NotValidYet,
    /// It is another name's.
    WrongName,
    /// Nobody vouches for it, or a certificate between is missing.
    UnknownIssuer,
    /// It is revoked.
    Revoked,
    /// It is not what a server's certificate has to be.
    BadCertificate,
    /// Upstream wants a certificate of the client's, and we have none.
    ClientCertificate,
    /// No version, cipher suite or group is common to upstream and us.
    Incompatible,
    /// Upstream refused the handshake with an alert.
    Alert,
    /// Upstream closed or reset the connection in the handshake.
    Closed,
    /// Upstream did not answer.
    Timeout,
    /// Upstream's answer is not TLS as we know it.
    NotTls,
}

impl Doubt {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::Name => "tls_server_name",
            Doubt::NotUnderstood => "tls_not_understood",
            Doubt::Offer => "tls_client_offer",
            Doubt::Files => "tls_rule_files",
            Doubt::Unissued => "tls_no_certificate",
            Doubt::RateLimited => "tls_rate_limited",
            Doubt::ClientRefuses => "tls_client_refuses",
            Doubt::Expired => "tls_upstream_expired",
            Doubt::NotValidYet => "tls_upstream_not_valid_yet",
            Doubt::WrongName => "tls_upstream_wrong_name",
            Doubt::UnknownIssuer => "tls_upstream_unknown_issuer",
            Doubt::Revoked => "tls_upstream_revoked",
            Doubt::BadCertificate => "tls_upstream_bad_certificate",
            Doubt::ClientCertificate => "tls_client_certificate",
            Doubt::Incompatible => "tls_upstream_incompatible",
            Doubt::Alert => "tls_upstream_alert",
            Doubt::Closed => "tls_upstream_closed",
            Doubt::Timeout => "tls_upstream_timeout",
            Doubt::NotTls => "tls_upstream_not_tls",
        }
    }

    /// For how long it is remembered.
    pub(super) fn lasts(self) -> Duration {
        match self {
            // May be an accident.
            Doubt::Closed | Doubt::Timeout => SHORT,
            // Ours, not upstream's.
            Doubt::Files | Doubt::Unissued => SHORT,
            Doubt::RateLimited => SECOND,
            _ => LONG,
        }
    }

    /// Whom it is about. A server's certificate is every client's; other answers may be to what one of them offered.
    pub(super) fn about(self) -> About {
        match self {
            Doubt::Expired
            | Doubt::NotValidYet
            | Doubt::WrongName
            | Doubt::UnknownIssuer
            | Doubt::Revoked
            | Doubt::BadCertificate
            | Doubt::ClientCertificate
            | Doubt::Files
            | Doubt::Unissued
            | Doubt::RateLimited => About::Server,
            Doubt::Incompatible | Doubt::Alert | Doubt::Closed | Doubt::Timeout | Doubt::NotTls => About::Client,
            Doubt::Name | Doubt::NotUnderstood | Doubt::Offer | Doubt::ClientRefuses => About::Nobody,
        }
    }

    /// What a failed handshake with upstream means.
    pub(super) fn of(error: &io::Error) -> Self {
        let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return Doubt::Closed };
        match inner {
            Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Doubt::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Doubt::NotValidYet,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Doubt::WrongName,
                CertificateError::UnknownIssuer => Doubt::UnknownIssuer,
                CertificateError::Revoked => Doubt::Revoked,
                _ => Doubt::BadCertificate,
            },
            Error::NoCertificatesPresented => Doubt::BadCertificate,
            Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity
                | AlertDescription::NoApplicationProtocol,
            )
            | Error::PeerIncompatible(_) => Doubt::Incompatible,
            Error::AlertReceived(_) => Doubt::Alert,
            _ => Doubt::NotTls,
        }
    }
}

/// Of whom a doubt is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Of the server, whoever the client is.
    Server,
    /// Of this client with this server.
    Client,
    /// It is known again without.
    Nobody,
}

/// How a client refused us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With an alert about our certificate, or because it and we have too little in common.
    Alert(&'static str),
    /// Without a word.
    Silent,
}

impl Refusal {
    /// For how long it is remembered of a client. One who says nothing may only have changed its mind.
    pub(super) fn lasts(self) -> Duration {
        match self {
            Refusal::Alert(_) => HOUR,
            Refusal::Silent => MINUTE,
        }
    }

    /// As `error.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Alert(alert) => alert,
            Refusal::Silent => "tls_closed_by_client",
        }
    }

    /// What a failed handshake with a client means.
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::AlertReceived(alert)) => match alert {
                AlertDescription::UnknownCA => Refusal::Alert("tls_alert_unknown_ca"),
                AlertDescription::BadCertificate => Refusal::Alert("tls_alert_bad_certificate"),
                AlertDescription::CertificateUnknown => Refusal::Alert("tls_alert_certificate_unknown"),
                AlertDescription::UnsupportedCertificate => Refusal::Alert("tls_alert_unsupported_certificate"),
                AlertDescription::CertificateExpired => Refusal::Alert("tls_alert_certificate_expired"),
                AlertDescription::CertificateRevoked => Refusal::Alert("tls_alert_certificate_revoked"),
                AlertDescription::AccessDenied => Refusal::Alert("tls_alert_access_denied"),
                AlertDescription::EncryptedClientHelloRequired => Refusal::Alert("tls_alert_ech_required"),
                // Cancelled, or whatever: nothing about our certificate.
                _ => Refusal::Silent,
            },
            // It and we do not find each other, and would not the next time.
            Some(Error::PeerIncompatible(_)) => Refusal::Alert("tls_incompatible"),
            _ => Refusal::Silent,
        }
    }
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
