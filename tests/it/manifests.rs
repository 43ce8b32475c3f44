//! What `deploy/` hands to a cluster: every variant rendered, valid, and holding what the documents say of it.

mod own;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};
use sidetrace::trust;

use super::support::{binary, root};

#[test]
fn every_variant_is_valid_for_the_last_four_versions_and_the_rendered_ones_are_up_to_date() {
    let mut rendered: Vec<String> = names("deploy/rendered");
    let overlays = names("deploy/overlays").into_iter().map(|overlay| format!("deploy/overlays/{overlay}"));
    for variant in overlays.chain(["deploy/base".to_owned()]) {
        let text = kustomize(&root().join(&variant));
        validate(&text, &[]).unwrap();
        let file = format!("{}.yaml", variant.rsplit('/').next().unwrap());
        let known = std::fs::read_to_string(root().join("deploy/rendered").join(&file)).unwrap_or_default();
        let header = format!("# Made of {variant} by `make manifests`.\n");
        assert!(known == header + &text, "deploy/rendered/{file} is stale: `make manifests`");
        rendered.retain(|name| *name != file);
    }
    assert_eq!(rendered, [""; 0], "rendered from no overlay");
    validate(&kustomize(&root().join("deploy/gateway")), &[]).unwrap();
    validate(&std::fs::read_to_string(root().join("deploy/network-policy.example.yaml")).unwrap(), &[]).unwrap();
}

#[test]
fn what_the_clusters_refuse_beyond_the_schemas_is_refused_here() {
    let pod = |container: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, {container}}}]}}}}"
        );
        validate(&text, &[]).map(|_| ())
    };
    pod("image: i, env: [{name: A, value: b}]").unwrap();
    assert!(pod("env: []").unwrap_err().contains("c has no image"));
    let both = pod("image: i, env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]");
    assert!(both.unwrap_err().contains("A has value and valueFrom"));
}

#[test]
fn the_classic_variants_are_valid_where_the_native_one_is_not() {
    for overlay in ["classic", "classic-job"] {
        validate(&kustomize(&root().join("deploy/overlays").join(overlay)), &["1.25"]).unwrap();
    }
    let error = validate(&kustomize(&root().join("deploy/base")), &["1.25"]).unwrap_err();
    assert!(error.contains("initContainers.1") && error.contains("restartPolicy"), "{error}");
}

#[test]
fn nothing_of_ours_may_do_more_than_it_must() {
    for (variant, pod) in every_variant() {
        for container in pod.ours() {
            let name = container["name"].as_str().unwrap();
            let security = &container["securityContext"];
            let said = format!("{variant}, {name}: {security}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{said}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{said}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{said}");
            let profile =
                if (variant, name) == ("localhost-seccomp", "sidetrace") { "Localhost" } else { "RuntimeDefault" };
            assert_eq!(security["seccompProfile"]["type"], profile, "{said}");
            let init = name == "sidetrace-init";
            let added = if init { json!(["NET_ADMIN", "NET_RAW"]) } else { Value::Null };
            assert_eq!(security["capabilities"]["add"], added, "{said}");
            // Both said, for what the pod says would hold for what is not.
            let user = if init { 0 } else { 15100 };
            assert_eq!((&security["runAsUser"], &security["runAsGroup"]), (&json!(user), &json!(user)), "{said}");
            assert_eq!(security["runAsNonRoot"], !init, "{said}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{variant}, {name}");
            // Where something is mounted already, the cluster mounts no token of the service account.
            let token = "/var/run/secrets/kubernetes.io/serviceaccount";
            assert!(mounts(container).any(|mount| mount["mountPath"] == token), "{variant}, {name}");
        }
        for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod.spec[field].is_null(), "{variant}: {field}");
        }
    }
}

#[test]
fn the_authoritys_key_is_the_sidecars_alone_and_nobody_else_writes_what_is_trusted() {
    for (variant, pod) in every_variant() {
        let key =
            pod.spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "sidetrace-ca").unwrap();
        assert!(
            key["emptyDir"]["medium"] == "Memory" || (variant == "mounted-authority" && key["secret"].is_object()),
            "{variant}: {key}"
        );
        for container in pod.all() {
            let said = format!("{variant}, {}", container["name"]);
            let mount = |name| mounts(container).find(|mount| mount["name"] == name);
            let sidecar = container["name"] == "sidetrace";
            assert_eq!(mount("sidetrace-ca").is_some(), sidecar, "{said}");
            for mount in mounts(container) {
                assert!(
                    mount["subPath"].is_null() && mount["subPathExpr"].is_null(),
                    "{said}: files there are replaced"
                );
            }
            match container["name"].as_str().unwrap() {
                "sidetrace-init" => assert!(mount("sidetrace-trust").is_none(), "{said}"),
                "sidetrace" => {
                    assert_eq!(
                        mount("sidetrace-trust").unwrap()["mountPath"],
                        *value(container, "SIDETRACE_TRUST_DIR")
                    );
                }
                _ => assert_eq!(
                    *mount("sidetrace-trust").unwrap(),
                    json!({"name": "sidetrace-trust", "mountPath": TRUST, "readOnly": true}),
                    "{said}"
                ),
            }
        }
    }
}

#[test]
fn the_agents_variables_are_those_of_the_table() {
    let table: BTreeMap<_, _> =
        trust::variables(Path::new(TRUST)).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for (variant, pod) in every_variant() {
        for container in pod.all().filter(|container| !OURS.contains(&container["name"].as_str().unwrap())) {
            let mut given: BTreeMap<String, String> = variables(container)
                .map(|entry| {
                    (entry["name"].as_str().unwrap().to_owned(), entry["value"].as_str().unwrap_or_default().to_owned())
                })
                .collect();
            if variant == "forward-proxy" {
                given.retain(|name, _| table.contains_key(name));
            }
            assert_eq!(given, table, "{variant}, {}", container["name"]);
        }
    }
}

#[test]
fn the_classic_sidecar_is_the_native_one_but_for_what_must_differ() {
    let base = variant("base");
    let mut native = base.container("sidetrace").clone();
    assert_eq!(native.as_object_mut().unwrap().remove("restartPolicy").unwrap(), "Always");
    let pod = variant("classic");
    assert_eq!(pod.names("initContainers"), ["sidetrace-init"]);
    // The first: kubelet starts the next one when its hook has ended.
    assert_eq!(pod.names("containers"), ["sidetrace", "agent"]);
    let mut classic = pod.container("sidetrace").clone();
    let hook = classic.as_object_mut().unwrap().remove("lifecycle").unwrap();
    assert_eq!(
        hook,
        json!({"postStart": {"exec": {"command": ["/usr/local/bin/sidetrace", "check", "--health", "--wait", "30"]}}})
    );
    let delay: u64 = value(&classic, "SIDETRACE_TERMINATION_DELAY").as_str().unwrap().parse().unwrap();
    // SIDETRACE_DRAIN_TIMEOUT and SIDETRACE_FLUSH_TIMEOUT are at their defaults.
    assert!(delay + 15 + 10 < pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap(), "{delay}");
    classic["env"].as_array_mut().unwrap().retain(|entry| entry["name"] != "SIDETRACE_TERMINATION_DELAY");
    assert_eq!(classic, native);
    assert_eq!(pod.container("agent"), base.container("agent"));
    assert_eq!(pod.container("sidetrace-init"), base.container("sidetrace-init"));
}

#[test]
fn without_net_admin_the_pod_passes_restricted() {
    for (variant, pod) in every_variant() {
        let broken = restricted(pod);
        assert_eq!(broken.is_empty(), variant == "forward-proxy", "{variant}: {broken:?}");
    }
}

#[test]
fn the_proxys_address_is_made_of_a_credential_of_the_pods_own() {
    let pod = variant("forward-proxy");
    assert_eq!(pod.names("initContainers"), ["sidetrace"], "no redirect");
    let entry = |container: &str| {
        let of_it = |entry: &&Value| entry["name"] == "SIDETRACE_FORWARD_CREDENTIAL";
        let found = variables(pod.container(container)).position(|entry| of_it(&entry)).unwrap();
        (found, variables(pod.container(container)).nth(found).unwrap()["valueFrom"].clone())
    };
    let (first, credential) = entry("agent");
    assert_eq!(credential, json!({"fieldRef": {"fieldPath": "metadata.uid"}}));
    assert_eq!(credential, entry("sidetrace").1);
    // Kubernetes puts in only what stands before.
    assert_eq!(first, 0);
    let agent = pod.container("agent");
    for variable in trust::PROXY_VARIABLES {
        assert_eq!(*value(agent, variable.name), variable.value("$(SIDETRACE_FORWARD_CREDENTIAL)", 15107));
    }
}

#[test]
fn the_rules_of_several_containers_are_those_of_their_users() {
    let rules = root().join("deploy/overlays/several-containers/rules.yaml");
    let output = Command::new(binary()).arg("config").env("SIDETRACE_CONFIG", rules).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let pod = variant("several-containers");
    for name in ["agent", "tools"] {
        let uid = &pod.container(name)["securityContext"]["runAsUser"];
        let rule = |line: &str| line.contains(&format!("uid={uid}")) && line.contains(&format!("name={name}"));
        assert!(said.lines().any(rule), "{said}");
    }
}

#[test]
fn a_probe_of_a_redirected_port_asks_more_than_whether_it_is_open() {
    let pod = variant("inbound");
    let excluded = value(pod.container("sidetrace-init"), "SIDETRACE_REDIRECT_LOCAL_EXCLUDE_PORTS");
    let agent = pod.container("agent");
    let probe = &agent["livenessProbe"]["tcpSocket"]["port"];
    let port = agent["ports"].as_array().unwrap().iter().find(|port| port["name"] == *probe).unwrap();
    assert_eq!(port["containerPort"].to_string(), excluded.as_str().unwrap());
    assert!(agent["readinessProbe"]["httpGet"].is_object());
}

#[test]
fn a_job_whose_end_nobody_may_tell_has_a_deadline() {
    let job = validate(&kustomize(&root().join("deploy/overlays/classic-job")), &[]).unwrap();
    assert!(job[0]["spec"]["activeDeadlineSeconds"].as_u64().unwrap() > 0);
}

#[test]
fn the_seccomp_profile_is_for_the_runtime_and_lets_nothing_dangerous_through() {
    let profile: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("deploy/seccomp/sidetrace.json")).unwrap()).unwrap();
    // A call that is not known fails as on a kernel without it, for libraries know what to do then.
    assert_eq!((&profile["defaultAction"], &profile["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(38)));
    let mut names = Vec::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        assert_eq!(rule["action"], "SCMP_ACT_ALLOW");
        let these = rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        // Those that are allowed by their arguments are named in no other rule.
        names.extend(these.map(|name| (name, rule["args"].is_array())));
    }
    for dangerous in [
        "bpf",
        "clone3",
        "io_uring_setup",
        "keyctl",
        "mount",
        "perf_event_open",
        "pivot_root",
        "process_vm_readv",
        "ptrace",
        "setns",
        "setuid",
        "unshare",
        "userfaultfd",
    ] {
        assert!(!names.iter().any(|(name, _)| *name == dangerous), "{dangerous}");
    }
    assert_eq!(names.iter().filter(|name| **name == ("socket", true)).count(), 4);
    for (name, narrowed) in &names {
        assert!(!narrowed || ["socket", "clone"].contains(name), "{name}");
        let times = names.iter().filter(|(other, _)| other == name).count();
        assert!(times == 1 || *narrowed, "{name} is named {times} times");
    }
}

/// The Pod of a Deployment or a Job.
struct Pod {
    spec: Value,
}

impl Pod {
    fn of(manifests: &Value) -> Pod {
        let mut pods = manifests.as_array().unwrap().iter().filter_map(|manifest| manifest["spec"].get("template"));
        let pod = Pod { spec: pods.next().unwrap()["spec"].clone() };
        assert!(pods.next().is_none());
        pod
    }

    fn all(&self) -> impl Iterator<Item = &Value> {
        ["initContainers", "containers"].into_iter().flat_map(|list| self.spec[list].as_array().unwrap())
    }

    fn ours(&self) -> impl Iterator<Item = &Value> {
        self.all().filter(|container| OURS.contains(&container["name"].as_str().unwrap()))
    }

    fn container(&self, name: &str) -> &Value {
        self.all().find(|container| container["name"] == name).unwrap_or_else(|| panic!("no container {name}"))
    }

    fn names(&self, list: &str) -> Vec<&str> {
        self.spec[list].as_array().unwrap().iter().map(|container| container["name"].as_str().unwrap()).collect()
    }
}

/// What of the Pod Security Standard `restricted` this pod breaks, of the fields that our manifests use.
fn restricted(pod: &Pod) -> Vec<String> {
    let mut broken = Vec::new();
    for container in pod.all() {
        let name = container["name"].as_str().unwrap();
        let security = &container["securityContext"];
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                broken.push(format!("{name}: {what}"));
            }
        };
        demand(security["runAsNonRoot"] == true, "runAsNonRoot");
        demand(security["runAsUser"] != 0, "runAsUser");
        demand(security["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        demand(security["privileged"] != true, "privileged");
        demand(security["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop");
        demand(security["capabilities"]["add"].is_null(), "capabilities.add");
        demand(
            ["RuntimeDefault", "Localhost"].iter().any(|kind| security["seccompProfile"]["type"] == *kind),
            "seccompProfile",
        );
        let ports = container["ports"].as_array().into_iter().flatten();
        demand(ports.clone().all(|port| port["hostPort"].is_null()), "hostPort");
    }
    for volume in pod.spec["volumes"].as_array().unwrap() {
        let allowed = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        if !allowed.iter().any(|kind| volume[kind].is_object()) {
            broken.push(format!("volume {}", volume["name"]));
        }
    }
    broken
}

fn variables(container: &Value) -> impl Iterator<Item = &Value> {
    container["env"].as_array().into_iter().flatten()
}

fn value<'a>(container: &'a Value, name: &str) -> &'a Value {
    let found: Vec<_> = variables(container).filter(|entry| entry["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {}", container["name"]);
    &found[0]["value"]
}

fn mounts(container: &Value) -> impl Iterator<Item = &Value> {
    container["volumeMounts"].as_array().into_iter().flatten()
}

fn every_variant() -> impl Iterator<Item = (&'static str, &'static Pod)> {
    VARIANTS.iter().map(|(name, pod)| (name.as_str(), pod))
}

fn variant(name: &str) -> &'static Pod {
    &VARIANTS[name]
}

fn names(folder: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn kustomize(folder: &Path) -> String {
    let output = Command::new(tool("kubectl")).arg("kustomize").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The manifests as a JSON list, or what is wrong with them. Without versions: the last four.
fn validate(manifests: &str, versions: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(tool("python"));
    command.arg(root().join("tests/it/manifests/validate.py")).args(versions);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn tool(name: &str) -> PathBuf {
    let tool = root().join("target/tools/kube/bin").join(name);
    assert!(tool.exists(), "{} is missing: `make tools` installs it", tool.display());
    tool
}

/// The base and every overlay, rendered and valid.
static VARIANTS: LazyLock<BTreeMap<String, Pod>> = LazyLock::new(|| {
    let overlays = names("deploy/overlays").into_iter().map(|name| (root().join("deploy/overlays").join(&name), name));
    overlays
        .chain([(root().join("deploy/base"), "base".to_owned())])
        .map(|(folder, name)| (name, Pod::of(&validate(&kustomize(&folder), &[]).unwrap())))
        .collect()
});
const TRUST: &str = "/run/sidetrace/trust";
const OURS: [&str; 2] = ["sidetrace-init", "sidetrace"];
