//! `iptables/init.sh`: the rules that it prints, lays, replaces and takes away, and where connections end up then.
//! On the real kernel, each test in network namespaces of its own, as root or in a user namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{Netns, full_uid_map, root};

const GUARD: Duration = Duration::from_secs(30);
const MARK: u32 = 36;
const FLAVOURS: [&str; 2] = ["nft", "legacy"];

/// What the golden files `tests/golden/iptables/NAME.v4.rules` and `NAME.v6.rules` were printed for.
const CASES: &[(&str, &str)] = &[
    ("default", ""),
    ("inbound", "-b *"),
    (
        "inbound_lists",
        "-b 8080,9000-9010 -d 9005 --inbound-cidr 10.0.0.0/8,fd00::/8 --inbound-exclude-cidr 10.9.0.0/16",
    ),
    ("mark", "--proxy-mark 0x24"),
    ("mark_and_uid", "--proxy-mark 0x24/0xff -u 1000"),
    ("uids", "-u 1000,2000 --mesh-uid none"),
    ("gid", "-g 2000"),
    ("owners", "--outbound-owner-users 1000,1001 --outbound-owner-groups 2000 -b 80"),
    ("owner_group", "--outbound-owner-groups 2000 --proxy-mark 0x24"),
    ("ports", "-q 80,443,8000-8100 -o 8080,9000:9005"),
    ("cidrs", "-i 10.0.0.0/8,fd00::/8 -x 10.1.0.0/16,fd00:1::/32,192.0.2.7"),
    ("cidrs_and_ports", "-i 10.0.0.0/8 -q 8443"),
    ("interfaces", "--include-interfaces eth0,lo -c docker0,cni+ -b 80"),
    ("no_loopback", "--no-loopback"),
    ("allow_quic", "--allow-quic"),
    ("port_443_excluded", "-o 443"),
    ("other_ports", "-p 15201 -z 15206 -b * --own-ports 15200 --otlp-ports none"),
    ("nothing", "--service-cidr="),
    ("ipv6_loopback", "--ipv6 loopback"),
    ("ipv6_off", "--ipv6 off"),
    (
        "everything",
        "-p 15201 -z 15206 -u 1000 -g 1001 --mesh-uid 1337 --proxy-mark 7 -q 443,8443 -i 10.0.0.0/8,fd00::/8 \
         -o 8080 -x 10.1.0.0/16,fd00:1::/32 -b 80,90-99 -d 95 --inbound-cidr 10.0.0.0/8,fd00::/8 \
         --inbound-exclude-cidr 10.9.0.0/16,fd00:9::/32 --include-interfaces eth0,eth1 -c docker0 --no-loopback",
    ),
];

#[test]
fn a_dry_run_prints_the_golden_rules() {
    let folder = root().join("tests/golden/iptables");
    let mut expected_files = BTreeSet::new();
    for (case, arguments) in CASES {
        let printed = rules(arguments, &[]);
        let printed = printed.strip_prefix("# iptables-restore --noflush\n").unwrap();
        let (v4, v6) = printed.split_once("# ip6tables-restore --noflush\n").unwrap();
        for (family, rules) in [("v4", v4), ("v6", v6)] {
            let file = format!("{case}.{family}.rules");
            let path = folder.join(&file);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&path, rules).unwrap();
            }
            let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(rules, golden, "{file} differs; UPDATE_GOLDEN=1 rewrites it");
            expected_files.insert(file);
        }
    }
    let files: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, expected_files, "every golden file belongs to a case");
}

#[test]
fn every_shell_prints_the_same_rules() {
    for (case, arguments) in CASES {
        let expected = rules(arguments, &[]);
        for shell in ["dash", "busybox ash", "bash", "bash --posix"] {
            let mut words = shell.split(' ');
            let mut command = Command::new(words.next().unwrap());
            command
                .args(words)
                .arg(script())
                .args(["--dry-run", "--ipv6", "on"])
                .args(arguments.split_whitespace())
                .env_clear();
            match command.output() {
                Ok(output) => assert_eq!(stdout(&output), expected, "{case} in {shell}: {}", stderr(&output)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{shell}: {error}"),
            }
        }
    }
}

#[test]
fn the_environment_and_the_names_of_istio_mean_the_same_and_the_command_line_wins() {
    let expected = rules(
        "-p 15201 -z 15206 -u 1000 -g 1001 -b 80 -d 81 -q 443 -o 82 -i 10.0.0.0/8 -x 10.1.0.0/16 -c eth9 --no-loopback \
         --allow-quic --ipv6 loopback --owner-uids 3000 --owner-gids 3001",
        &[],
    );
    let long = "--envoy-port=15201 --inbound-capture-port=15206 --proxy-uid=1000 --proxy-gid=1001 \
        --istio-inbound-ports=80 --istio-local-exclude-ports=81 --istio-outbound-ports=443 \
        --istio-local-outbound-ports-exclude=82 --istio-service-cidr=10.0.0.0/8 \
        --istio-service-exclude-cidr=10.1.0.0/16 --istio-exclude-interfaces=eth9 --loopback=off --quic=allow \
        --ipv6=loopback --outbound-owner-users=3000 --outbound-owner-groups=3001";
    assert_eq!(rules(long, &[]), expected);

    let environment = [
        ("SIDETRACE_OUTBOUND_PORT", "15201"),
        ("SIDETRACE_INBOUND_PORT", "15206"),
        ("SIDETRACE_UID", "1000"),
        ("SIDETRACE_GID", "1001"),
        ("SIDETRACE_MARK", ""),
        ("SIDETRACE_REDIRECT_INBOUND_PORTS", "80"),
        ("SIDETRACE_REDIRECT_LOCAL_EXCLUDE_PORTS", "81"),
        ("SIDETRACE_REDIRECT_OUTBOUND_OWNER_USERS", "3000"),
        ("SIDETRACE_REDIRECT_OUTBOUND_OWNER_GROUPS", "3001"),
        ("SIDETRACE_REDIRECT_OUTBOUND_PORTS", "443"),
        ("SIDETRACE_REDIRECT_LOCAL_OUTBOUND_PORTS_EXCLUDE", "82"),
        ("SIDETRACE_REDIRECT_SERVICE_CIDR", "10.0.0.0/8"),
        ("SIDETRACE_REDIRECT_SERVICE_EXCLUDE_CIDR", "10.1.0.0/16"),
        ("SIDETRACE_REDIRECT_EXCLUDE_INTERFACES", "eth9"),
        ("SIDETRACE_REDIRECT_LOOPBACK", "off"),
        ("SIDETRACE_REDIRECT_QUIC", "allow"),
        ("SIDETRACE_REDIRECT_IPV6", "loopback"),
        ("SIDETRACE_REDIRECT_DRY_RUN", "true"),
    ];
    let by_environment = Command::new("/bin/sh").arg(script()).env_clear().envs(environment).output().unwrap();
    assert_eq!(stdout(&by_environment), expected, "{}", stderr(&by_environment));

    let other = environment.map(|(name, value)| (name, if value == "1000" { "1999" } else { value }));
    assert_ne!(rules("--ipv6 loopback", &other), expected);
    assert_eq!(rules("--ipv6 loopback -u 1000", &other), expected);
}

#[test]
fn what_kubernetes_sets_for_a_service_of_such_a_name_says_nothing() {
    let links = ["SIDETRACE_OUTBOUND_PORT", "SIDETRACE_INBOUND_PORT", "SIDETRACE_REDIRECT_PORT"]
        .map(|name| (name, "tcp://10.96.0.1:4317"));
    assert_eq!(rules("--ipv6 loopback", &links), rules("--ipv6 loopback", &[]));
}

#[test]
fn bad_usage_names_the_option_the_value_and_what_is_accepted_all_at_once() {
    for (arguments, complaint) in [
        ("-p 70000", "--outbound-port (SIDETRACE_OUTBOUND_PORT) '70000': accepted is a port from 1 to 65535"),
        ("-p 015101", "'015101'"),
        ("-p 15106", "--inbound-capture-port (SIDETRACE_INBOUND_PORT) '15106'"),
        ("-u root", "--proxy-uid (SIDETRACE_UID) 'root': accepted is numeric ids"),
        ("-g 4294967295", "'4294967295'"),
        ("-u none -g none", "--proxy-uid (SIDETRACE_UID) 'none': accepted only with --proxy-gid or --proxy-mark"),
        ("--proxy-mark 0", "--proxy-mark (SIDETRACE_MARK) '0'"),
        ("--proxy-mark 0x1ffffffff", "'0x1ffffffff'"),
        ("-x 1.2.3.4/99", "--service-exclude-cidr (SIDETRACE_REDIRECT_SERVICE_EXCLUDE_CIDR) '1.2.3.4/99'"),
        ("-x 1.2.3", "'1.2.3'"),
        ("-x 1.2.3.256", "'1.2.3.256'"),
        ("-x ''1::2::3", "'1::2::3'"),
        ("-x 1:2:3:4:5:6:7", "'1:2:3:4:5:6:7'"),
        ("-x fd00::/129", "'fd00::/129'"),
        ("-x '*'", "'*'"),
        ("-o 90-80", "--local-outbound-ports-exclude (SIDETRACE_REDIRECT_LOCAL_OUTBOUND_PORTS_EXCLUDE) '90-80'"),
        ("-q 80,http", "'http'"),
        (
            "--owner-uids agent",
            "--outbound-owner-users (SIDETRACE_REDIRECT_OUTBOUND_OWNER_USERS) 'agent': accepted is numeric ids",
        ),
        ("--owner-gids 5,'*'", "--outbound-owner-groups (SIDETRACE_REDIRECT_OUTBOUND_OWNER_GROUPS) '*'"),
        ("-c 'eth0;reboot'", "'eth0;reboot'"),
        ("-c -j", "'-j'"),
        ("--ipv6 maybe", "'maybe': accepted is one of auto on loopback off"),
        ("--wait forever", "'forever'"),
        ("--quic", "--quic: a value must follow"),
        ("--inbound", "--inbound: there is no such option"),
        ("-p,--outbound-port 1", "there is no such option"),
        ("up", "up: there is no such option"),
    ] {
        let output = shell(&format!("sh {} --dry-run {arguments}", script()));
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(complaint), "{arguments}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments}");
    }

    let output = shell(&format!("SIDETRACE_REDIRECT_SERVICE_CIDRS=x sh {} -n -p 0 --ipv6 5 -q 80,0", script()));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 4, "{}", stderr(&output));
    assert!(stderr(&output).contains("SIDETRACE_REDIRECT_SERVICE_CIDRS: there is no such variable"));
}

#[test]
fn help_lists_options_with_their_variables() {
    let help = stdout(&shell(&format!("sh {} --help", script())));
    for name in ["--service-cidr", "--istio-service-cidr", "SIDETRACE_UID", "SIDETRACE_REDIRECT_WAIT", "--clean-up"] {
        assert!(help.contains(name), "{name} in {help}");
    }
}

#[test]
fn ipv6_is_redirected_as_far_as_it_leads() {
    let only_loopback = "! -d ::1/128 -j RETURN";
    let netns = Netns::new();
    let printed = || admin(&netns, &format!("sh {} --dry-run", script()));

    let rules = printed();
    assert!(rules.contains(only_loopback), "there is only ::1 here: {rules}");

    admin(&netns, "ip -6 addr add fd00:231::1/128 dev lo nodad; ip -6 route add default dev lo src fd00:231::1");
    let rules = printed();
    assert!(rules.contains("-d ::1/128 -p tcp --dport 4317") && !rules.contains(only_loopback), "a route: {rules}");

    admin(&netns, "ip -6 addr flush dev lo");
    let rules = printed();
    assert!(rules.trim_end().ends_with("# ip6tables-restore --noflush"), "no IPv6 at all: {rules}");
}

#[test]
fn a_second_run_changes_nothing() {
    for flavour in FLAVOURS {
        let run = format!("--iptables {flavour} -b '*' -x 10.0.0.0/8 {}", exempt());
        let once = state_after(flavour, &[&run]);
        assert!(once.contains("-A OUTPUT -p tcp -j SIDETRACE_OUTPUT\n-A OUTPUT -j MESH"), "{once}");
        assert!(once.contains("-A PREROUTING -p tcp -j MESH\n-A PREROUTING -p tcp -j SIDETRACE_INBOUND"), "{once}");
        assert_eq!(state_after(flavour, &[&run, &run]), once);
    }
}

#[test]
fn a_run_with_other_options_leaves_what_a_first_run_would() {
    for flavour in FLAVOURS {
        let all = format!("--iptables {flavour} -b '*' {}", exempt());
        let little = format!("--iptables {flavour} --allow-quic -q 80 --ipv6 off {}", exempt());
        let once = state_after(flavour, &[&little]);
        assert!(!once.contains("SIDETRACE_INBOUND") && !once.contains("SIDETRACE_QUIC"), "{once}");
        assert_eq!(state_after(flavour, &[&all, &little]), once);
        assert_eq!(state_after(flavour, &[&all, &little, &all]), state_after(flavour, &[&all]));
    }
}

#[test]
fn a_run_after_a_meshs_init_ends_where_a_run_before_it_does() {
    for flavour in FLAVOURS {
        let run = format!("--iptables {flavour} -b '*' {}", exempt());
        let netns = routed();
        lay(&netns, &run);
        foreign(&netns, flavour);
        lay(&netns, &run);
        assert_eq!(state(&netns, flavour), state_after(flavour, &[&run]));
    }
}

#[test]
fn clean_up_takes_away_ours_and_nothing_else() {
    for flavour in FLAVOURS {
        let netns = routed();
        foreign(&netns, flavour);
        let before = state(&netns, flavour);
        lay(&netns, &format!("--iptables {flavour} -b '*' {}", exempt()));
        assert_ne!(state(&netns, flavour), before);
        lay(&netns, "--clean-up");
        assert_eq!(state(&netns, flavour), before);
        lay(&netns, "--clean-up");
        assert_eq!(state(&netns, flavour), before);
    }
}

#[test]
fn a_change_of_flavour_moves_the_rules() {
    let netns = routed();
    lay(&netns, &format!("--iptables nft {}", exempt()));
    assert!(state(&netns, "nft").contains("SIDETRACE"));
    lay(&netns, &format!("--iptables legacy {}", exempt()));
    assert!(!state(&netns, "nft").contains("SIDETRACE"));
    assert!(state(&netns, "legacy").contains("SIDETRACE"));
}

#[test]
fn the_flavour_that_others_use_here_is_used() {
    for flavour in FLAVOURS {
        let netns = routed();
        foreign(&netns, flavour);
        // A user namespace may be unable to list legacy tables; then it is the first that works, and that is nft.
        let visible = netns.sh("PATH=$PATH:/usr/sbin; iptables-legacy-save");
        let expected = if stdout(&visible).contains("MESH") { "legacy" } else { "nft" };
        let said = lay(&netns, exempt());
        assert!(said.contains(&format!("by iptables ({expected};")), "others use {flavour}: {said}");
        assert!(state(&netns, expected).contains("SIDETRACE"));
    }
}

#[test]
fn connections_end_at_the_proxy_which_learns_where_they_were_going() {
    for flavour in FLAVOURS {
        let netns = routed();
        serve_proxy_and_origins(&netns);
        lay(&netns, &format!("--iptables {flavour} {}", exempt()));
        for (destination, end) in [
            ("203.0.113.9:80", "proxy"),
            ("203.0.113.9:15120", "proxy"),
            ("203.0.113.9:4317", "proxy"),
            ("127.0.0.1:8080", "proxy"),
            ("127.0.0.9:8080", "proxy"),
            ("10.231.0.1:8080", "proxy"),
            ("[2001:db8::9]:80", "proxy"),
            ("[2001:db8::9]:15120", "proxy"),
            ("[::1]:8080", "proxy"),
            ("[fd00:231::1]:8080", "proxy"),
            // Our own listeners, on every local address; those for OTLP on loopback only.
            ("127.0.0.1:15120", "origin"),
            ("10.231.0.1:15120", "origin"),
            ("[::1]:15120", "origin"),
            ("[fd00:231::1]:15120", "origin"),
            ("127.0.0.1:4317", "origin"),
            ("[::1]:4317", "origin"),
            ("10.231.0.1:4317", "proxy"),
        ] {
            assert_eq!(ask(&netns, destination, None), format!("{end} {destination}"), "{flavour}");
        }
    }
}

#[test]
fn lists_and_switches_decide_what_is_redirected() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        (
            "-o 8080,9000-9010 -x 10.231.0.0/16,::1",
            &[
                ("127.0.0.1:8080", "origin"),
                ("127.0.0.1:9005", "origin"),
                ("127.0.0.1:443", "proxy"),
                ("10.231.0.1:443", "origin"),
                ("[::1]:443", "origin"),
                ("[fd00:231::1]:8080", "origin"),
                ("[fd00:231::1]:443", "proxy"),
            ],
        ),
        (
            "-q 9000:9010 -i 203.0.113.0/24,2001:db8::/32",
            &[
                ("127.0.0.1:9005", "proxy"),
                ("198.51.100.1:9005", "proxy"),
                ("[::1]:9005", "proxy"),
                ("203.0.113.9:1", "proxy"),
                ("[2001:db8::9]:1", "proxy"),
                ("127.0.0.1:8080", "origin"),
                ("[::1]:8080", "origin"),
            ],
        ),
        (
            "--no-loopback",
            &[
                ("127.0.0.1:8080", "origin"),
                ("[::1]:8080", "origin"),
                ("10.231.0.1:8080", "proxy"),
                ("203.0.113.9:80", "proxy"),
                ("[2001:db8::9]:80", "proxy"),
            ],
        ),
        ("-c lo", &[("127.0.0.1:8080", "origin"), ("[::1]:8080", "origin")]),
        ("--include-interfaces eth0", &[("127.0.0.1:8080", "origin"), ("[::1]:8080", "origin")]),
        ("-i ''", &[("127.0.0.1:8080", "origin"), ("[::1]:8080", "origin")]),
        ("--ipv6 loopback", &[("[::1]:8080", "proxy"), ("[fd00:231::1]:8080", "origin")]),
        ("--ipv6 off", &[("127.0.0.1:8080", "proxy"), ("[::1]:8080", "origin")]),
    ];
    for (arguments, ends) in cases {
        let netns = routed();
        serve_proxy_and_origins(&netns);
        lay(&netns, &format!("{arguments} {}", exempt()));
        for (destination, end) in *ends {
            assert_eq!(ask(&netns, destination, None), format!("{end} {destination}"), "{arguments}");
        }
    }
}

#[test]
fn what_carries_the_mark_is_left_alone() {
    for flavour in FLAVOURS {
        for mark in ["36", "0x24", "0x4/0x4"] {
            let netns = routed();
            serve_proxy_and_origins(&netns);
            lay(&netns, &format!("--iptables {flavour} --proxy-mark {mark}"));
            assert!(!state(&netns, flavour).contains("owner"), "a mark does without owners");
            for destination in ["127.0.0.1:8080", "10.231.0.1:8080", "[::1]:8080"] {
                assert_eq!(ask(&netns, destination, Some(MARK)), format!("origin {destination}"));
                assert_eq!(ask(&netns, destination, Some(MARK + 4)), format!("proxy {destination}"), "{mark}");
                assert_eq!(ask(&netns, destination, None), format!("proxy {destination}"));
            }
        }
    }
}

#[test]
fn sidetrace_and_the_proxies_of_a_mesh_are_left_alone() {
    let netns = routed();
    if !full_uid_map() {
        let output = init(&netns, "");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("--proxy-mark"), "{}", stderr(&output));
        return;
    }
    serve_proxy_and_origins(&netns);
    for flavour in FLAVOURS {
        lay(&netns, &format!("--iptables {flavour}"));
        for (uid, gid, end) in [
            (15100, 1000, "origin"),
            (1337, 1000, "origin"),
            (2102, 1000, "origin"),
            (1000, 15100, "origin"),
            (1000, 1000, "proxy"),
            (0, 0, "proxy"),
        ] {
            assert_eq!(ask_as(&netns, uid, gid, "127.0.0.1", 8080), format!("{end} 127.0.0.1:8080"), "{uid}:{gid}");
            assert_eq!(ask_as(&netns, uid, gid, "::1", 8080), format!("{end} [::1]:8080"), "{uid}:{gid}");
        }
        lay(&netns, &format!("--iptables {flavour} -u 3000 -g 3001"));
        for (uid, gid, end) in [(3000, 0, "origin"), (0, 3001, "origin"), (1337, 0, "origin"), (15100, 15100, "proxy")]
        {
            assert_eq!(ask_as(&netns, uid, gid, "127.0.0.1", 8080), format!("{end} 127.0.0.1:8080"), "{uid}:{gid}");
        }
    }
}

#[test]
fn only_what_the_owners_asked_for_send_is_redirected() {
    let netns = routed();
    serve_proxy_and_origins(&netns);
    for flavour in FLAVOURS {
        if !full_uid_map() {
            // Root is the one user here.
            for (owners, end) in [("0", "proxy"), ("none", "origin"), ("'*'", "proxy")] {
                lay(&netns, &format!("--iptables {flavour} --proxy-mark {MARK} --outbound-owner-users {owners}"));
                assert_eq!(ask(&netns, "127.0.0.1:8080", None), format!("{end} 127.0.0.1:8080"), "{owners}");
            }
            let output = init(&netns, &format!("--iptables {flavour} --proxy-mark {MARK} --outbound-owner-users 1000"));
            assert_eq!(output.status.code(), Some(1));
            assert!(stderr(&output).contains("the owner match for uid 1000 here: without"), "{}", stderr(&output));
            assert!(!state(&netns, flavour).contains("SIDETRACE"), "{flavour}");
            continue;
        }
        for (owners, ends) in [
            // The users (1000, 1), (2000, 2), (15100, 1) and (0, 0), the first number being the uid and the second the gid.
            ("--outbound-owner-users 1000", ["proxy", "origin", "origin", "origin"]),
            ("--outbound-owner-users 1000,2000,15100", ["proxy", "proxy", "origin", "origin"]),
            ("--outbound-owner-groups 2", ["origin", "proxy", "origin", "origin"]),
            ("--outbound-owner-groups 0,1", ["proxy", "origin", "origin", "proxy"]),
            ("--outbound-owner-users 1000 --outbound-owner-groups 0", ["proxy", "origin", "origin", "proxy"]),
            ("--outbound-owner-users none", ["origin", "origin", "origin", "origin"]),
            ("--outbound-owner-users '*' --outbound-owner-groups 2", ["proxy", "proxy", "origin", "proxy"]),
            ("", ["proxy", "proxy", "origin", "proxy"]),
        ] {
            let run = format!("--iptables {flavour} {owners}");
            lay(&netns, &run);
            let once = state(&netns, flavour);
            for ((uid, gid), end) in [(1000, 1), (2000, 2), (15100, 1), (0, 0)].into_iter().zip(ends) {
                let who = format!("{owners}: {uid}:{gid}");
                assert_eq!(ask_as(&netns, uid, gid, "127.0.0.1", 8080), format!("{end} 127.0.0.1:8080"), "{who}");
                assert_eq!(ask_as(&netns, uid, gid, "::1", 8080), format!("{end} [::1]:8080"), "{who}");
            }
            lay(&netns, &run);
            assert_eq!(state(&netns, flavour), once, "{owners}: a second run changes nothing");
        }
        lay(&netns, "--clean-up");
        assert!(!state(&netns, flavour).contains("SIDETRACE"), "{flavour}");
    }
}

#[test]
fn quic_is_refused_to_the_owners_asked_for_alone() {
    let refused = (Err(ErrorKind::PermissionDenied), Err(ErrorKind::ConnectionRefused));
    let passed = (Ok(()), Ok(()));
    let netns = routed();
    echo_datagrams(&netns, "127.0.0.1:443");
    for flavour in FLAVOURS {
        // This process is root here, as it has to be to lay rules.
        for (owners, expected) in [("0", refused), ("none", passed)] {
            lay(&netns, &format!("--iptables {flavour} --proxy-mark {MARK} --outbound-owner-users {owners}"));
            assert_eq!(exchange_datagrams(&netns, "127.0.0.1:443", None), expected, "{flavour}: {owners}");
        }
    }
}

#[test]
fn outbound_comes_to_us_before_a_mesh_and_goes_on_into_it() {
    for flavour in FLAVOURS {
        let netns = routed();
        serve_proxy_and_origins(&netns);
        serve(&netns, "mesh", &["127.0.0.1:15001", "[::1]:15001"]);
        let run = format!("--iptables {flavour} --proxy-mark {MARK}");
        lay(&netns, &run);
        admin(
            &netns,
            &format!(
                "for tool in iptables-{flavour} ip6tables-{flavour}; do
                    $tool -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001
                done"
            ),
        );
        for _ in 0..2 {
            for destination in ["203.0.113.9:80", "[2001:db8::9]:80"] {
                assert_eq!(ask(&netns, destination, None), format!("proxy {destination}"));
                assert_eq!(ask(&netns, destination, Some(MARK)), format!("mesh {destination}"));
            }
            lay(&netns, &run);
        }
    }
}

#[test]
fn inbound_is_redirected_only_where_it_was_asked_for() {
    for flavour in FLAVOURS {
        let (here, there) = wired();
        serve(&here, "inbound", &["[::]:15106"]);
        for port in [8080, 9000, 15120] {
            serve(&here, "origin", &[format!("10.232.0.1:{port}").as_str(), format!("[fd00:232::1]:{port}").as_str()]);
        }
        let everything = [(8080, "inbound"), (9000, "inbound"), (15120, "origin")];
        let nothing = [(8080, "origin"), (9000, "origin"), (15120, "origin")];
        let one = [(8080, "inbound"), (9000, "origin"), (15120, "origin")];
        for (arguments, ends) in [
            ("", nothing),
            ("-b '*'", everything),
            ("-b '*' -d 8999-9001", one),
            ("-b 8080", one),
            ("-b 8000-8999,15120", one),
            ("-b '*' -c wire", nothing),
            ("-b '*' --include-interfaces wire", everything),
            ("-b '*' --include-interfaces other", nothing),
            ("-b '*' --inbound-cidr 10.232.0.0/24,fd00:232::/64", everything),
            ("-b '*' --inbound-cidr 10.233.0.0/24,fd00:233::/64", nothing),
            ("-b '*' --inbound-exclude-cidr 10.232.0.2,fd00:232::2", nothing),
        ] {
            lay(&here, &format!("--iptables {flavour} {arguments} {}", exempt()));
            for (port, end) in ends {
                for destination in [format!("10.232.0.1:{port}"), format!("[fd00:232::1]:{port}")] {
                    assert_eq!(ask(&there, &destination, None), format!("{end} {destination}"), "{arguments}");
                }
            }
        }
    }
}

#[test]
fn inbound_comes_to_a_mesh_before_us() {
    for flavour in FLAVOURS {
        let (here, there) = wired();
        serve(&here, "inbound", &["[::]:15106"]);
        serve(&here, "mesh", &["[::]:15006"]);
        admin(
            &here,
            &format!(
                "for tool in iptables-{flavour} ip6tables-{flavour}; do
                    $tool -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 15006
                done"
            ),
        );
        lay(&here, &format!("--iptables {flavour} -b '*' {}", exempt()));
        for (destination, end) in [
            ("10.232.0.1:80", "mesh"),
            ("10.232.0.1:81", "inbound"),
            ("[fd00:232::1]:80", "mesh"),
            ("[fd00:232::1]:81", "inbound"),
        ] {
            assert_eq!(ask(&there, destination, None), format!("{end} {destination}"), "{flavour}");
        }
    }
}

#[test]
fn udp_443_is_refused_and_other_udp_is_not() {
    let refused = (Err(ErrorKind::PermissionDenied), Err(ErrorKind::ConnectionRefused));
    let passed = (Ok(()), Ok(()));
    for flavour in FLAVOURS {
        let (here, there) = wired();
        for address in ["10.232.0.2:443", "10.232.0.2:444", "[fd00:232::2]:443", "[fd00:232::2]:444"] {
            echo_datagrams(&there, address);
        }
        for address in ["127.0.0.1:443", "[::1]:443"] {
            echo_datagrams(&here, address);
        }
        for (arguments, wire, loopback) in [
            ("", refused, refused),
            ("--allow-quic", passed, passed),
            ("--no-loopback", refused, passed),
            ("-x 10.232.0.0/16,fd00:232::/32", passed, refused),
            ("-c wire", passed, refused),
            ("-o 400-500", passed, passed),
            ("-q 443", refused, refused),
            ("-q 80", passed, passed),
            ("-i 10.232.0.0/16,fd00:232::/32", refused, passed),
        ] {
            lay(&here, &format!("--iptables {flavour} --proxy-mark {MARK} {arguments}"));
            for (destination, expected) in [
                ("10.232.0.2:443", wire),
                ("[fd00:232::2]:443", wire),
                ("127.0.0.1:443", loopback),
                ("[::1]:443", loopback),
                ("10.232.0.2:444", passed),
                ("[fd00:232::2]:444", passed),
            ] {
                assert_eq!(exchange_datagrams(&here, destination, None), expected, "{arguments}: {destination}");
                assert_eq!(exchange_datagrams(&here, destination, Some(MARK)), passed, "{arguments}: {destination}");
            }
        }
    }
}

#[test]
fn a_missing_piece_is_named_with_its_alternative_and_nothing_stays_behind() {
    for (refused, arguments, complaint) in [
        ("*-m owner*", "-u 0", "the owner match for uid 0 here: --proxy-mark"),
        ("*--gid-owner*", "-u none -g 0 --mesh-uid none", "the owner match for gid 0 here: --proxy-mark"),
        ("*-m mark*", "--proxy-mark 36", "the mark match here: -u or -g"),
        ("*! --uid-owner*", "--proxy-mark 36 --owner-uids 0", "the owner match for uid 0 here: without"),
        ("*! --gid-owner*", "--proxy-mark 36 --owner-gids 0", "the owner match for gid 0 here: without"),
        ("*-m addrtype*", "--proxy-mark 36", "the addrtype match here: load xt_addrtype"),
        ("*REJECT*", "--proxy-mark 36", "the REJECT target here: --allow-quic"),
        ("*filter*", "--proxy-mark 36", "the filter table here: --allow-quic"),
        ("*REDIRECT*", "--proxy-mark 36", "the REDIRECT target here: load xt_REDIRECT"),
        ("*nat*", "--proxy-mark 36", "the nat table here: load"),
        ("ip6tables-*nat*", "--proxy-mark 36", "IPv6 lacks the nat table here: --ipv6 off"),
        ("ip6tables-*REJECT*", "--proxy-mark 36", "IPv6 lacks the REJECT target here: --allow-quic"),
    ] {
        let netns = routed();
        foreign(&netns, "nft");
        let before = state(&netns, "nft");
        let output = init_with_refusing_iptables(&netns, refused, &format!("--iptables nft {arguments}"));
        assert_eq!(output.status.code(), Some(1), "{refused}: {}", stderr(&output));
        assert!(stderr(&output).contains(complaint), "{refused}: {}", stderr(&output));
        assert_eq!(state(&netns, "nft"), before, "{refused}");
    }
}

#[test]
fn the_named_alternatives_do_without_the_missing_piece() {
    for (refused, arguments) in [
        ("*owner*", "--proxy-mark 36"),
        ("*REJECT*", "--proxy-mark 36 --allow-quic"),
        ("*filter*", "--proxy-mark 36 --allow-quic"),
        ("ip6tables*", "--proxy-mark 36 --ipv6 off"),
    ] {
        let netns = routed();
        let output = init_with_refusing_iptables(&netns, refused, &format!("--iptables nft {arguments}"));
        assert!(output.status.success(), "{refused}: {}", stderr(&output));
        assert!(state(&netns, "nft").contains("-A OUTPUT -p tcp -j SIDETRACE_OUTPUT"), "{refused}");
    }
}

#[test]
fn where_nft_does_not_work_legacy_is_used() {
    let netns = routed();
    let output = init_with_refusing_iptables(&netns, "*-nft-restore*", exempt());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(state(&netns, "legacy").contains("-A OUTPUT -p tcp -j SIDETRACE_OUTPUT"));
    assert!(!state(&netns, "nft").contains("SIDETRACE"));
}

#[test]
fn without_the_capability_it_says_so() {
    let netns = routed();
    for arguments in ["", "--iptables nft", "--iptables legacy"] {
        let powerless = "setpriv --inh-caps=-all --bounding-set=-all sh";
        let output = netns.sh(&format!("{powerless} {} {arguments} {}", script(), exempt()));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("CAP_NET_ADMIN"), "{}", stderr(&output));
    }
    let output = netns.sh(&format!("setpriv --inh-caps=-all --bounding-set=-all sh {} --clean-up", script()));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

/// What `sidetrace run` does on a developer's machine: no root anywhere, one uid, exemption by mark.
#[test]
fn an_unprivileged_user_namespace_redirects_by_mark_and_says_why_not_by_owner() {
    let plain_user = if full_uid_map() { "setpriv --reuid 65534 --regid 65534 --clear-groups" } else { "" };
    for flavour in FLAVOURS {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("exec {plain_user} unshare --user --map-root-user --net sh -c \"$INSIDE\""))
            // The script goes along as text: the plain user may not be able to read this folder.
            .env("INIT", fs::read_to_string(script()).unwrap())
            .env("CLIENTS", MARKED_AND_UNMARKED_CLIENTS)
            .env("FLAVOUR", flavour)
            .env(
                "INSIDE",
                r#"
                PATH=$PATH:/usr/sbin:/sbin
                ip link set lo up
                sh -c "$INIT" init.sh --iptables $FLAVOUR 2>&1
                echo "exit $?"
                sh -c "$INIT" init.sh --iptables $FLAVOUR --proxy-mark 36 2>&1
                echo "exit $?"
                exec python3 -c "$CLIENTS"
                "#,
            )
            .current_dir("/");
        let output = command.output().unwrap();
        let said = stdout(&output);
        assert!(output.status.success(), "{flavour}: {said}{}", stderr(&output));
        let (by_owner, by_mark) = said.split_once("exit 1\n").unwrap_or_else(|| panic!("{flavour}: {said}"));
        assert!(by_owner.contains("the owner match for uid 15100 here: --proxy-mark"), "{flavour}: {by_owner}");
        assert!(by_mark.contains("exit 0\n"), "{flavour}: {by_mark}");
        assert!(by_mark.contains("0 ends at 15101, was going to 8080\n"), "{flavour}: {by_mark}");
        assert!(by_mark.contains("36 ends at 8080, was going to 8080\n"), "{flavour}: {by_mark}");
    }
}

const MARKED_AND_UNMARKED_CLIENTS: &str = r#"
import socket, struct
SO_MARK, SO_ORIGINAL_DST = 36, 80
listeners = {port: socket.create_server(("127.0.0.1", port)) for port in (8080, 15101)}
for mark, end in ((0, 15101), (36, 8080)):
    client = socket.socket()
    client.settimeout(30)
    client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    client.connect(("127.0.0.1", 8080))
    listeners[end].settimeout(30)
    accepted, _ = listeners[end].accept()
    port, = struct.unpack_from("!H", accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16), 2)
    print(f"{mark} ends at {end}, was going to {port}")
"#;

/// What keeps the proxy's traffic out of the redirect: the owner by default, where owners can be matched.
fn exempt() -> &'static str {
    if full_uid_map() { "" } else { "--proxy-mark 36" }
}

fn script() -> String {
    root().join("iptables/init.sh").display().to_string()
}

/// What a dry run prints, with nothing in the environment but `environment`.
fn rules(arguments: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new("/bin/sh")
        .arg(script())
        .args(["--dry-run", "--ipv6", "on"])
        .args(arguments.split_whitespace())
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", stderr(&output));
    stdout(&output)
}

fn shell(script: &str) -> Output {
    Command::new("sh").arg("-c").arg(script).output().unwrap()
}

fn init(netns: &Netns, arguments: &str) -> Output {
    netns.sh(&format!("sh {} {arguments}", script()))
}

/// Runs the script, which must succeed, and returns what it said.
fn lay(netns: &Netns, arguments: &str) -> String {
    let output = init(netns, arguments);
    assert!(output.status.success(), "init.sh {arguments}: {}", stderr(&output));
    stderr(&output)
}

/// The same with iptables that refuse whatever matches the pattern `refused`, said of their name and their input.
fn init_with_refusing_iptables(netns: &Netns, refused: &str, arguments: &str) -> Output {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refusing-iptables");
    let folder = folder.display();
    // Linked into place whole, since tests run beside each other.
    admin(
        netns,
        &format!(
            r#"mkdir -p {folder}
            cat > {folder}/refusing.$$ <<'END'
#!/bin/sh
input=$(cat)
case "${{0##*/}} $input" in $REFUSED) echo "refused for the test" >&2; exit 1 ;; esac
PATH=${{PATH#*:}}
printf '%s\n' "$input" | "${{0##*/}}" "$@"
END
            chmod +x {folder}/refusing.$$
            for tool in iptables-nft-restore ip6tables-nft-restore; do
                ln -f {folder}/refusing.$$ {folder}/$tool.$$
                mv -f {folder}/$tool.$$ {folder}/$tool
            done
            rm -f {folder}/refusing.$$"#
        ),
    );
    netns.sh(&format!("REFUSED='{refused}' PATH={folder}:$PATH; export REFUSED PATH; sh {} {arguments}", script()))
}

/// A namespace in which every address can be dialled: what is not local ends at lo.
fn routed() -> Netns {
    let netns = Netns::new();
    admin(
        &netns,
        "ip addr add 10.231.0.1/32 dev lo; ip route add default dev lo src 10.231.0.1
        ip -6 addr add fd00:231::1/128 dev lo nodad; ip -6 route add default dev lo src fd00:231::1",
    );
    netns
}

/// Two namespaces and a wire between them: 10.232.0.1 and fd00:232::1 here, 10.232.0.2 and fd00:232::2 there.
fn wired() -> (Netns, Netns) {
    let (here, there) = (Netns::new(), Netns::new());
    let near = here.clone();
    there.enter(move || {
        // A thread's id will do for `ip` as the name of the namespace it is in.
        let thread = fs::read_link("/proc/thread-self").unwrap();
        let thread = thread.file_name().unwrap().to_str().unwrap();
        admin(&near, &format!("ip link add name wire type veth peer name wire netns {thread}"));
    });
    for (netns, number) in [(&here, 1), (&there, 2)] {
        admin(
            netns,
            &format!(
                "ip addr add 10.232.0.{number}/24 dev wire; ip -6 addr add fd00:232::{number}/64 dev wire nodad
                ip link set wire up"
            ),
        );
    }
    for netns in [&here, &there] {
        // The kernel notices a little later that both ends are up.
        admin(
            netns,
            "timeout 30 sh -c 'until ip link show dev wire | grep -q \"state UP\" && ip -6 route | grep -q fd00:232; do :; done'",
        );
    }
    (here, there)
}

/// Runs a script of iptables and ip commands, all of which must succeed.
fn admin(netns: &Netns, script: &str) -> String {
    netns.sh_ok(&format!("set -e; PATH=$PATH:/usr/sbin:/sbin; export XTABLES_LOCKFILE=/dev/null\n{script}"))
}

/// Rules such as a mesh or a firewall has, which are nobody's to touch.
fn foreign(netns: &Netns, flavour: &str) {
    admin(
        netns,
        &format!(
            "for tool in iptables-{flavour} ip6tables-{flavour}; do
                $tool -t nat -N MESH
                $tool -t nat -A MESH -p tcp --dport 9 -j RETURN
                $tool -t nat -A OUTPUT -j MESH
                $tool -t nat -A PREROUTING -p tcp -j MESH
                $tool -A OUTPUT -p udp --dport 53 -j ACCEPT
            done"
        ),
    );
}

/// All rules of both families, without comments and counters.
fn state(netns: &Netns, flavour: &str) -> String {
    let saved = admin(
        netns,
        &format!(
            "for tool in iptables ip6tables; do
                for table in nat filter; do $tool-{flavour}-save -t $table; done
            done"
        ),
    );
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(" [").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The rules after these runs in a new namespace that has foreign rules.
fn state_after(flavour: &str, runs: &[&str]) -> String {
    let netns = routed();
    foreign(&netns, flavour);
    for run in runs {
        lay(&netns, run);
    }
    state(&netns, flavour)
}

fn serve_proxy_and_origins(netns: &Netns) {
    serve(netns, "proxy", &["127.0.0.1:15101", "[::1]:15101"]);
    for port in [443, 4317, 8080, 9005, 15120] {
        for host in ["127.0.0.1", "10.231.0.1", "[::1]", "[fd00:231::1]"] {
            serve(netns, "origin", &[format!("{host}:{port}").as_str()]);
        }
    }
}

/// Answers each connection to these addresses with `name` and the address that it was made to.
fn serve(netns: &Netns, name: &'static str, addresses: &[&str]) {
    for address in addresses {
        let address: SocketAddr = address.parse().unwrap();
        let listener = netns.enter(move || TcpListener::bind(address).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let answer = format!("{name} {}", original_destination(&stream));
                // A client that has gone away fails its own test.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
    }
}

fn original_destination(stream: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let v4 = match stream.peer_addr().unwrap() {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(peer) => peer.ip().to_ipv4_mapped().is_some(),
    };
    let original = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without any rule for its family a connection has no original destination but its own.
    original.ok().and_then(|address| address.as_socket()).unwrap_or_else(|| stream.local_addr().unwrap())
}

/// Connects, and returns the answer, or why there was none.
fn ask(netns: &Netns, destination: &str, mark: Option<u32>) -> String {
    let destination: SocketAddr = destination.parse().unwrap();
    netns.enter(move || {
        let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None).unwrap();
        if let Some(mark) = mark {
            socket.set_mark(mark).unwrap();
        }
        if let Err(error) = socket.connect_timeout(&destination.into(), GUARD) {
            return error.to_string();
        }
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) => answer,
            Err(error) => error.to_string(),
        }
    })
}

/// The same by a process of another user.
fn ask_as(netns: &Netns, uid: u32, gid: u32, host: &str, port: u16) -> String {
    let mut client = Command::new("timeout");
    client
        .arg("30")
        .arg("bash")
        .arg("-c")
        .arg(r#"exec 3<>"/dev/tcp/$0/$1" && cat <&3"#)
        .arg(host)
        .arg(port.to_string());
    client.uid(uid).gid(gid).current_dir("/");
    stdout(&netns.output(client))
}

fn echo_datagrams(netns: &Netns, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = netns.enter(move || UdpSocket::bind(address).unwrap());
    thread::spawn(move || {
        let mut datagram = [0; 16];
        while let Ok((length, client)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], client);
        }
    });
}

/// How sending and receiving went on a connected socket.
fn exchange_datagrams(
    netns: &Netns,
    destination: &str,
    mark: Option<u32>,
) -> (Result<(), ErrorKind>, Result<(), ErrorKind>) {
    let destination: SocketAddr = destination.parse().unwrap();
    netns.enter(move || {
        let any = if destination.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        if let Some(mark) = mark {
            SockRef::from(&socket).set_mark(mark).unwrap();
        }
        socket.set_read_timeout(Some(GUARD)).unwrap();
        socket.connect(destination).unwrap();
        let sent = socket.send(b"hello").map(drop).map_err(|error| error.kind());
        let received = socket.recv(&mut [0; 16]).map(drop).map_err(|error| error.kind());
        (sent, received)
    })
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
