//! Every flag's acceptance and errors, and the rules of the command line.

use super::table::TABLE;
use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| if word == "''" { "" } else { word }.to_owned()).collect()
}

fn accept(line: &str) -> Parsed {
    parse("kube-proxy", &words(line)).unwrap_or_else(|exit| panic!("{line}: {}", exit.stderr))
}

/// The last line on stderr of a command line that is refused.
fn refuse(line: &str) -> String {
    let exit = parse("kube-proxy", &words(line)).expect_err(line);
    assert_eq!((exit.code, exit.stdout.as_str()), (1, ""), "{line}");
    exit.stderr.lines().last().unwrap_or_default().to_owned()
}

fn shown(line: &str, name: &str) -> String {
    accept(line).all().into_iter().find(|(flag, _)| *flag == name).expect("flag exists").1
}

#[test]
fn rows_are_sorted_and_unique() {
    assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
}

#[test]
fn defaults_are_those_of_kube_proxy() {
    let all = Parsed::defaults().all();
    for (name, value) in [
        ("bind-address", "0.0.0.0"),
        ("config-sync-period", "15m0s"),
        ("conntrack-max-per-core", "32768"),
        ("conntrack-min", "131072"),
        ("conntrack-tcp-timeout-close-wait", "1h0m0s"),
        ("conntrack-tcp-timeout-established", "24h0m0s"),
        ("healthz-bind-address", "0.0.0.0:10256"),
        ("iptables-localhost-nodeports", "true"),
        ("iptables-min-sync-period", "1s"),
        ("kube-api-qps", "5"),
        ("metrics-bind-address", "127.0.0.1:10249"),
        ("nodeport-addresses", "[]"),
        ("oom-score-adj", "-999"),
        ("udp-timeout", "250ms"),
        ("v", "0"),
        ("version", "false"),
    ] {
        assert!(all.contains(&(name, value.to_owned())), "{name}");
    }
}

#[test]
fn each_flag_takes_its_kind_of_value() {
    for (line, name, value) in [
        ("--bind-address 10.0.0.1", "bind-address", "10.0.0.1"),
        ("--bind-address=::1", "bind-address", "::1"),
        ("--bind-address=010.0.0.1", "bind-address", "010.0.0.1"),
        ("--cleanup", "cleanup", "true"),
        ("--cleanup=T", "cleanup", "true"),
        ("--iptables-localhost-nodeports=0", "iptables-localhost-nodeports", "false"),
        ("--cluster-cidr 10.0.0.0/8,fd00::/8", "cluster-cidr", "10.0.0.0/8,fd00::/8"),
        ("--conntrack-min=0x10", "conntrack-min", "16"),
        ("--oom-score-adj -1000", "oom-score-adj", "-1000"),
        ("--config-sync-period 90s", "config-sync-period", "1m30s"),
        ("--conntrack-udp-timeout=-1s", "conntrack-udp-timeout", "-1s"),
        ("--healthz-bind-address 1.2.3.4", "healthz-bind-address", "1.2.3.4"),
        ("--healthz-bind-address [::]:0", "healthz-bind-address", "[::]:0"),
        ("--kube-api-qps=-1.5", "kube-api-qps", "-1.5"),
        ("--feature-gates B=1,A=f --feature-gates C=true", "feature-gates", "A=false,B=true,C=true"),
        ("--nodeport-addresses 10.0.0.0/8,fd00::/8", "nodeport-addresses", "[10.0.0.0/8,fd00::/8]"),
        ("--nodeport-addresses a --nodeport-addresses b,c", "nodeport-addresses", "[a,b,c]"),
        ("--nodeport-addresses \"a\",b", "nodeport-addresses", "[a,b]"),
        ("--nodeport-addresses=", "nodeport-addresses", "[]"),
        ("--proxy-mode anything", "proxy-mode", "anything"),
        ("--log-text-info-buffer-size 4Ki", "log-text-info-buffer-size", "4Ki"),
        ("--vmodule proxier=5,con*=2", "vmodule", "proxier=5,con*=2"),
        ("--iptables_sync_period=7s", "iptables-sync-period", "7s"),
        ("--version=v1.36.2-rc.0+x", "version", "v1.36.2-rc.0+x"),
        ("--version=false", "version", "false"),
    ] {
        assert_eq!(shown(line, name), value, "{line}");
        assert!(accept(line).given(name), "{line}");
    }
}

#[test]
fn verbosity_is_understood_in_every_form() {
    for line in ["-v 4", "-v=4", "-v4", "--v=4", "--v 4"] {
        assert_eq!(accept(line).flags.verbosity, 4, "{line}");
    }
}

#[test]
fn an_empty_address_leaves_the_default_in_force() {
    let flags = accept("--healthz-bind-address '' --metrics-bind-address= --bind-address ''").flags;
    assert_eq!(flags, RawFlags::default());
}

#[test]
fn quoted_list_items_may_hold_commas() {
    let parsed = parse("p", &[r#"--ipvs-exclude-cidrs="a,b",c"#.to_owned()]).unwrap();
    assert_eq!(parsed.flags.ipvs_exclude_cidrs, ["a,b", "c"]);
}

#[test]
fn bad_words_are_named_in_the_last_line() {
    for (line, message) in [
        ("--x", "Error: unknown flag: --x"),
        ("--bad_name=1", "Error: unknown flag: --bad-name"),
        ("-x", "Error: unknown shorthand flag: 'x' in -x"),
        ("--=5", "Error: bad flag syntax: --=5"),
        ("--config", "Error: flag needs an argument: --config"),
        ("-v", "Error: flag needs an argument: 'v' in -v"),
        ("extra", r#"Error: "kube-proxy" does not take any arguments, got ["extra"]"#),
        ("--cleanup false", r#"Error: "kube-proxy" does not take any arguments, got ["false"]"#),
        ("-- --cleanup", r#"Error: "kube-proxy" does not take any arguments, got ["--cleanup"]"#),
        (
            "--bind-address x",
            r#"Error: invalid argument "x" for "--bind-address" flag: "x" is not a valid IP address"#,
        ),
        (
            "--healthz-bind-address x:1",
            r#"Error: invalid argument "x:1" for "--healthz-bind-address" flag: "x" is not a valid IP address"#,
        ),
        (
            "--metrics-bind-address x",
            r#"Error: invalid argument "x" for "--metrics-bind-address" flag: "x" is not in a valid format (ip or ip:port): address x: missing port in address"#,
        ),
        (
            "--metrics-bind-address 1.1.1.1:70000",
            r#"Error: invalid argument "1.1.1.1:70000" for "--metrics-bind-address" flag: "70000" is not a valid number"#,
        ),
        (
            "--cleanup=maybe",
            r#"Error: invalid argument "maybe" for "--cleanup" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        ),
        (
            "--conntrack-min 99999999999",
            r#"Error: invalid argument "99999999999" for "--conntrack-min" flag: strconv.ParseInt: parsing "99999999999": value out of range"#,
        ),
        (
            "-v=-1",
            r#"Error: invalid argument "-1" for "-v, --v" flag: strconv.ParseUint: parsing "-1": invalid syntax"#,
        ),
        (
            "--kube-api-qps q",
            r#"Error: invalid argument "q" for "--kube-api-qps" flag: strconv.ParseFloat: parsing "q": invalid syntax"#,
        ),
        (
            "--udp-timeout 5",
            r#"Error: invalid argument "5" for "--udp-timeout" flag: time: missing unit in duration "5""#,
        ),
        (
            "--feature-gates A",
            r#"Error: invalid argument "A" for "--feature-gates" flag: malformed pair, expect string=bool"#,
        ),
        (
            "--feature-gates A=maybe",
            r#"Error: invalid argument "A=maybe" for "--feature-gates" flag: invalid value of A: maybe, err: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        ),
        (
            "--vmodule proxier",
            r#"Error: invalid argument "proxier" for "--vmodule" flag: "proxier" does not have the pattern=N format"#,
        ),
        (
            "--log-json-info-buffer-size lots",
            r#"Error: invalid argument "lots" for "--log-json-info-buffer-size" flag: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
        ),
        (
            "--version=new",
            r#"Error: invalid argument "new" for "--version" flag: strconv.ParseBool: parsing "new": invalid syntax"#,
        ),
    ] {
        assert_eq!(refuse(line), message, "{line}");
    }
    assert!(refuse("--version=v1.35.0").contains("must match major/minor/patch of default version"));
}

#[test]
fn an_unknown_flag_prints_the_usage_first() {
    let exit = parse("kube-proxy", &words("--nope")).unwrap_err();
    assert!(exit.stderr.starts_with("Usage:\n  kube-proxy [flags]\n"));
    assert!(exit.stderr.ends_with("\n\nError: unknown flag: --nope\n"));
}

#[test]
fn a_deprecated_flag_works_and_says_so() {
    let parsed = accept("--healthz-port=0");
    assert_eq!(parsed.flags.healthz_port, 0);
    assert_eq!(parsed.notices.len(), 1);
    assert!(parsed.notices[0].starts_with("Flag --healthz-port has been deprecated, "));
}

#[test]
fn help_lists_what_is_not_deprecated() {
    for line in ["--help", "-h", "--cleanup -h x"] {
        let exit = parse("kube-proxy", &words(line)).unwrap_err();
        assert_eq!(exit.code, 0);
        assert!(exit.stdout.contains("--iptables-sync-period duration (default 30s)"));
        assert!(exit.stdout.contains("-v, --v Level"));
        assert!(!exit.stdout.contains("--healthz-port"));
        assert!(exit.stdout.lines().all(|line| line.len() <= 100), "help fits a terminal");
    }
}

#[test]
fn version_prints_and_exits() {
    let exit = parse("kube-proxy", &words("--version")).unwrap_err();
    assert_eq!(exit.stdout, format!("Kubernetes {KUBERNETES_VERSION}\n"));
    assert_eq!(exit.code, 0);
    let exit = parse("kube-proxy", &words("--version=raw")).unwrap_err();
    assert!(exit.stdout.starts_with("version.Info{Major:\"1\", Minor:\"36\""));
    assert_eq!(accept("--version=v1.36.2-mine").version, "v1.36.2-mine");
}

#[test]
fn the_dump_has_a_line_for_every_flag() {
    let dump = accept("--proxy-mode=nftables --metrics-port=1").dump();
    assert_eq!(dump.len(), TABLE.len());
    assert!(dump.contains(&r#"FLAG: --proxy-mode="nftables""#.to_owned()));
    assert!(dump.contains(&r#"FLAG: --metrics-port="1""#.to_owned()));
}

#[test]
fn a_subcommand_may_add_flags() {
    let extras = [
        Extra { name: "family", letter: None, type_name: "string", default: "both", doc: "IP family." },
        Extra { name: "wide", letter: Some('w'), type_name: "", default: "false", doc: "More columns." },
    ];
    let line = words("--family ipv4 -w --proxy-mode iptables");
    let parsed = parse_with("switchyard rules", &line, &extras).unwrap();
    assert_eq!(parsed.extras["family"], "ipv4");
    assert_eq!(parsed.extras["wide"], "true");
    assert_eq!(parsed.flags.proxy_mode, "iptables");
    let help = parse_with("switchyard rules", &words("-h"), &extras).unwrap_err().stdout;
    assert!(help.contains("--family string (default both)"));
}
