//! Any text as the rules file: rules, or problems that can be shown, and rules that can be asked about anything.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use sidetrace::config::assembly::assemble;
use sidetrace::net::Direction;
use sidetrace::policy::{Policy, Subject};

fuzz_target!(|text: &str| {
    let variables = BTreeMap::from([("SIDETRACE_CONFIG".to_owned(), "rules.yaml".to_owned())]);
    match assemble(variables, |path| if path == "rules.yaml" { Ok(text.to_owned()) } else { Err(std::io::ErrorKind::NotFound.into()) })
    {
        Err(problems) => assert!(!problems.to_string().is_empty()),
        Ok(assembled) => {
            let policy = Policy::new(assembled.config.rules);
            for (direction, host, path) in
                [(Direction::Outbound, Some("api.example"), "/v1/x"), (Direction::Inbound, None, ""), (Direction::Outbound, Some(text), text)]
            {
                let subject = Subject {
                    direction,
                    address: [127, 0, 0, 1].into(),
                    port: 80,
                    host,
                    method: "GET",
                    path,
                    content_type: None,
                    user_agent: None,
                };
                _ = (policy.verdict(&subject), policy.injects(&subject), policy.keeps_query_value(path));
                _ = (policy.intercepts(host, subject.address, 443), policy.client_certificate_for(host, subject.address));
                assert!(policy.roots_for(host, subject.address).all(|index| index < policy.roots().len()));
            }
        }
    }
});
