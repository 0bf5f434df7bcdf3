//! Who the agent is to Google, by the flags.
use std::fmt::Display;

use super::UsageError;
use crate::{
    cas::{Endpoint, Roots, RootsError},
    cli::{CaArgs, ExchangeArgs},
    google::{
        Audience, Environment, ExchangeOptions, IdentityChoice, IdentityMode, Impersonate,
        ServiceAccount,
    },
};

/// What the flags say, if they say it rightly.
pub(super) fn choice(
    ca: &CaArgs,
    endpoint: &Endpoint,
    exchange: &ExchangeArgs,
) -> Result<IdentityChoice, UsageError> {
    let choice = match mode(ca, endpoint) {
        IdentityMode::Reflected => {
            return Ok(IdentityChoice::Reflected(
                exchange_options(exchange)?.into(),
            ));
        }
        IdentityMode::Direct => IdentityChoice::Direct(Environment::Process),
        IdentityMode::None => IdentityChoice::None,
    };
    let unused = [
        ("--sts-audience", exchange.sts_audience.is_some()),
        ("--impersonate", exchange.impersonate.is_some()),
    ];
    if let Some((flag, _)) = unused.into_iter().find(|(_, is_given)| *is_given) {
        return Err(UsageError(format!(
            "{flag}: it is used with --identity reflected only; add that, or leave {flag} out"
        )));
    }
    Ok(choice)
}

/// Who calls, if nobody says otherwise: nobody on loopback, the agent itself by https.
pub(super) fn mode(ca: &CaArgs, endpoint: &Endpoint) -> IdentityMode {
    ca.identity
        .unwrap_or_else(|| IdentityMode::default_for(endpoint))
}

/// The CA certificates that https servers are checked by. A bundle that was named is read in any
/// case, so that what is wrong with it shows at once; where only bundle endpoints could need the
/// system's, those say so when they are missing.
pub(super) fn roots(
    ca: &CaArgs,
    endpoint: &Endpoint,
    identity: &IdentityChoice,
) -> Result<Roots, RootsError> {
    let mut asked = identity.endpoints().into_iter().chain([endpoint]);
    let must_be = ca.ca_bundle.is_some() || asked.any(Endpoint::is_https);
    match Roots::load(ca.ca_bundle.as_deref()) {
        Err(_none) if !must_be => Ok(Roots::none()),
        roots => roots,
    }
}

fn exchange_options(args: &ExchangeArgs) -> Result<ExchangeOptions, UsageError> {
    let Some(audience) = &args.sts_audience else {
        return Err(UsageError(
            "--identity reflected needs --sts-audience: the workload identity pool and its provider, at which the workloads' tokens are exchanged".to_owned(),
        ));
    };
    let audience = Audience::parse(audience).map_err(|error| wrong("--sts-audience", &error))?;
    let endpoint = |flag, text: &str| Endpoint::parse(text).map_err(|error| wrong(flag, &error));
    let impersonate = match &args.impersonate {
        None => None,
        Some(account) => Some(Impersonate {
            account: ServiceAccount::parse(account)
                .map_err(|error| wrong("--impersonate", &error))?,
            iamcredentials: endpoint("--iamcredentials-endpoint", &args.iamcredentials_endpoint)?,
        }),
    };
    Ok(ExchangeOptions {
        sts: endpoint("--sts-endpoint", &args.sts_endpoint)?,
        audience,
        impersonate,
    })
}

fn wrong(flag: &str, error: &dyn Display) -> UsageError {
    UsageError(format!("{flag}: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    const AUDIENCE: &str = "--sts-audience //iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";

    fn choose(flags: &str) -> Result<IdentityChoice, String> {
        let line = format!("certagent run --config c {flags}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(args) = cli.command else {
            panic!()
        };
        let endpoint = Endpoint::parse("http://127.0.0.1:1").unwrap();
        choice(&args.ca, &endpoint, &args.exchange).map_err(|error| error.to_string())
    }

    #[test]
    fn the_services_are_google_s_unless_others_are_named() {
        let endpoints = |flags: &str| -> Vec<String> {
            let choice = choose(&format!("--identity reflected {AUDIENCE} {flags}")).unwrap();
            let endpoints = choice.endpoints();
            endpoints.into_iter().map(ToString::to_string).collect()
        };
        let account = "--impersonate a@p.iam.gserviceaccount.com";
        let (sts, credentials) = (
            "https://sts.googleapis.com",
            "https://iamcredentials.googleapis.com",
        );
        assert_eq!(endpoints(""), [sts]);
        assert_eq!(endpoints(account), [sts, credentials]);
        assert_eq!(
            endpoints(&format!(
                "{account} --sts-endpoint http://127.0.0.1:1 --iamcredentials-endpoint http://[::1]:2"
            )),
            ["http://127.0.0.1:1", "http://[::1]:2"]
        );
        assert!(matches!(choose("").unwrap(), IdentityChoice::None));
        let direct = choose("--identity direct").unwrap();
        assert!(matches!(
            direct,
            IdentityChoice::Direct(Environment::Process)
        ));
    }

    #[test]
    fn a_flag_that_is_wrong_missing_or_of_no_use_is_named() {
        let reflected = "--identity reflected";
        for (flags, begin) in [
            (
                reflected.to_owned(),
                "--identity reflected needs --sts-audience: ",
            ),
            (
                format!("{reflected} --sts-audience demo.svc.id.goog"),
                "--sts-audience: \"demo.svc.id.goog\" is no audience",
            ),
            (
                format!("{reflected} {AUDIENCE} --sts-endpoint http://sts.googleapis.com"),
                "--sts-endpoint: \"http://sts.googleapis.com\" is plain HTTP to another machine",
            ),
            (
                format!("{reflected} {AUDIENCE} --impersonate someone@example.com"),
                "--impersonate: \"someone@example.com\" is not the email address",
            ),
            (AUDIENCE.to_owned(), "--sts-audience: it is used with"),
            (
                "--identity none --impersonate a@p.iam.gserviceaccount.com".to_owned(),
                "--impersonate: it is used with --identity reflected only",
            ),
        ] {
            let message = choose(&flags).unwrap_err();
            assert!(message.starts_with(begin), "{message}");
        }
    }
}
