//! What users lay over `deploy/`, or beside a workload of their own: their values win, and nothing of theirs is lost.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sidetrace::trust;

use super::{Pod, TRUST, kustomize, mounts, validate, value, variant};
use crate::it::support::root;

#[test]
fn a_workload_of_the_users_own_keeps_all_that_it_has() {
    beside("own_workload", "shop.yaml", SHOP);
    let text = layered("own_workload", &documented("your own workload"));
    let shop = validate(&text, &[]).unwrap();
    let pod = Pod::of(&shop);
    assert_eq!(shop[0]["metadata"]["name"], "shop");
    assert_eq!(shop[0]["spec"]["selector"], json!({"matchLabels": {"app": "shop"}}));
    assert_eq!(shop[0]["spec"]["template"]["metadata"]["labels"], json!({"app": "shop"}));
    assert_eq!(pod.names("initContainers"), ["sidetrace-init", "sidetrace", "migrate"]);
    assert_eq!(pod.names("containers"), ["web", "worker"]);
    assert_eq!(value(pod.container("sidetrace"), "OTEL_SERVICE_NAME"), "shop");
    for name in ["migrate", "web", "worker"] {
        let container = pod.container(name);
        for (name, expected) in trust::variables(Path::new(TRUST)) {
            assert_eq!(value(container, name), &expected);
        }
        assert!(mounts(container).any(|mount| mount["name"] == "sidetrace-trust" && mount["readOnly"] == true));
    }
    let web = pod.container("web");
    assert_eq!(value(web, "PORT"), "8080");
    assert!(mounts(web).any(|mount| mount["name"] == "shop-ca"));
}

#[test]
fn the_component_alone_changes_nothing_of_the_users_whatever_the_kind() {
    let deployment = validate(SHOP, &[]).unwrap();
    let before = Pod::of(&deployment);
    let base = variant("base");
    let replicas = "  replicas: 2\n";
    let with = |kind: &str, spec: &str| SHOP.replace("kind: Deployment", kind).replace(replicas, spec);
    let job =
        with("kind: Job", "").replace("apps/v1", "batch/v1").replace("  selector: {matchLabels: {app: shop}}\n", "");
    for (kind, shop) in [
        ("Deployment", SHOP.to_owned()),
        ("StatefulSet", with("kind: StatefulSet", "  serviceName: shop\n")),
        ("DaemonSet", with("kind: DaemonSet", "")),
        ("ReplicaSet", with("kind: ReplicaSet", replicas)),
        ("Job", job.replace("      serviceAccountName", "      restartPolicy: Never\n      serviceAccountName")),
    ] {
        beside("own_kind", "shop.yaml", &shop);
        let text = layered("own_kind", "resources: [shop.yaml]\ncomponents: [COMPONENTS/sidecar]\n");
        let workload = validate(&text, &[]).unwrap();
        assert_eq!(workload[0]["kind"], kind);
        if kind != "Job" {
            assert_eq!(workload[0]["spec"]["selector"], deployment[0]["spec"]["selector"], "{kind}");
        }
        let pod = Pod::of(&workload);
        assert_eq!(pod.names("initContainers"), ["sidetrace-init", "sidetrace", "migrate"], "{kind}");
        assert_eq!(pod.spec["containers"], before.spec["containers"], "{kind}");
        assert_eq!(pod.container("migrate"), before.container("migrate"), "{kind}");
        for field in ["terminationGracePeriodSeconds", "securityContext", "serviceAccountName"] {
            assert_eq!(pod.spec[field], before.spec[field], "{kind}");
        }
        assert_eq!(pod.container("sidetrace-init"), base.container("sidetrace-init"), "{kind}");
        let mut of_base = base.container("sidetrace").clone();
        // The example's own.
        of_base["env"].as_array_mut().unwrap().retain(|entry| entry["name"] != "SIDETRACE_CONTAINER_NAME");
        assert_eq!(*pod.container("sidetrace"), of_base, "{kind}");
    }
}

#[test]
fn a_cronjob_is_given_the_same_as_the_rest() {
    let header = "# Made of ../sidecar/pod.yaml by `make manifests`.\n";
    let made = std::fs::read_to_string(root().join("deploy/components/sidecar-cronjob/pod.yaml")).unwrap();
    assert!(made.starts_with(header));
    let job = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: shop}, spec: {schedule: '0 * * * *', jobTemplate: {spec: \
               {template: {spec: {restartPolicy: Never, containers: [{name: web, image: web}]}}}}}}";
    beside("own_cronjob", "shop.yaml", job);
    let rendered = |component: &str| {
        let text = layered("own_cronjob", &format!("resources: [shop.yaml]\ncomponents: [COMPONENTS/{component}]\n"));
        validate(&text, &[]).unwrap()[0]["spec"]["jobTemplate"].clone()
    };
    let mut template = rendered("sidecar-cronjob")["spec"]["template"].clone();
    assert_eq!(template["spec"].as_object_mut().unwrap().remove("restartPolicy").unwrap(), "Never");
    beside(
        "own_cronjob",
        "shop.yaml",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: shop}, spec: {selector: {}, template: {spec: {containers: \
         [{name: web, image: web}]}}}}",
    );
    let text = layered("own_cronjob", "resources: [shop.yaml]\ncomponents: [COMPONENTS/sidecar]\n");
    let deployment = validate(&text, &[]).unwrap();
    assert_eq!(template, deployment[0]["spec"]["template"], "sidecar-cronjob/pod.yaml is stale: `make manifests`");
    // The others leave it alone.
    beside("own_cronjob", "shop.yaml", job);
    assert_eq!(rendered("sidecar")["spec"]["template"]["spec"]["initContainers"], Value::Null);
}

#[test]
fn every_component_works_on_a_workload_of_the_users_own() {
    let changes = ["inbound", "gateway", "mounted-authority", "extra-roots", "localhost-seccomp"];
    for last in ["", "forward-proxy", "classic"] {
        beside("own_combined", "shop.yaml", SHOP);
        let mut components = vec!["sidecar"];
        // There is nothing that `inbound` could change without a redirect.
        components.extend(changes.iter().filter(|change| (**change, last) != ("inbound", "forward-proxy")));
        components.extend(Some(last).filter(|last| !last.is_empty()));
        let list: String = components.iter().map(|name| format!("\n  - COMPONENTS/{name}")).collect();
        let text = layered("own_combined", &format!("resources: [shop.yaml]\ncomponents:{list}\n"));
        let pod = Pod::of(&validate(&text, &[]).unwrap());
        let (init, app): (&[&str], &[&str]) = match last {
            "forward-proxy" => (&["sidetrace", "migrate"], &["web", "worker"]),
            // What comes before the redirect can open connections.
            "classic" => (&["migrate", "sidetrace-init"], &["sidetrace", "web", "worker"]),
            _ => (&["sidetrace-init", "sidetrace", "migrate"], &["web", "worker"]),
        };
        assert_eq!(pod.names("initContainers"), init, "{last}");
        assert_eq!(pod.names("containers"), app, "{last}");
        let sidecar = pod.container("sidetrace");
        assert_eq!(value(sidecar, "SIDETRACE_CA_KEY"), "/run/sidetrace-ca/tls.key");
        let file = value(sidecar, "SIDETRACE_EXTRA_ROOTS").as_str().unwrap();
        assert!(mounts(sidecar).any(|mount| file.starts_with(mount["mountPath"].as_str().unwrap())));
    }
}

#[test]
fn what_the_user_sets_wins_in_the_order_that_the_document_shows() {
    let text = layered("own_values", &documented("over the example"));
    let pod = Pod::of(&validate(&text, &[]).unwrap());
    assert_eq!(pod.names("initContainers"), ["sidetrace-init", "sidetrace", "fetch-model"]);
    let agent = pod.container("agent");
    assert_eq!(value(agent, "SSL_CERT_FILE"), "/etc/ssl/mine.pem");
    assert_eq!(value(agent, "CURL_CA_BUNDLE"), &format!("{TRUST}/bundle.pem"));
    assert_eq!(agent["image"], "registry.example.com/my-agent:1.2.3");
    for ours in pod.ours() {
        let image = format!("registry.example.com/{}@sha256:", ours["name"].as_str().unwrap());
        assert!(ours["image"].as_str().unwrap().starts_with(&image), "{ours}");
    }
    assert_eq!(value(pod.container("sidetrace"), "OTEL_EXPORTER_OTLP_ENDPOINT"), "https://otlp.example.com:4318");
}

#[test]
fn the_documents_other_examples_render_what_they_say() {
    let pod = |title: &str| Pod::of(&validate(&layered("documented", &documented(title)), &[]).unwrap());
    let forward = pod("over forward-proxy");
    assert_eq!(forward.names("initContainers"), ["sidetrace", "fetch-model"]);
    let classic = pod("over classic");
    assert_eq!(classic.names("initContainers"), ["fetch-model", "sidetrace-init"]);
    assert_eq!(classic.names("containers"), ["sidetrace", "agent"]);
    for pod in [forward, classic] {
        assert_eq!(value(pod.container("sidetrace"), "OTEL_EXPORTER_OTLP_ENDPOINT"), "https://otlp.example.com:4318");
    }
}

#[test]
fn the_classic_sidecar_stays_first_if_a_patch_begins_with_it() {
    let patched = |containers: &str| {
        let patch = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: agent}}, spec: {{template: {{spec: {{\
             initContainers: [{{name: mine, image: mine}}], containers: [{containers}]}}}}}}}}"
        );
        let text = layered("own_classic", &format!("resources: [OVERLAYS/classic]\npatches: [{{patch: '{patch}'}}]\n"));
        Pod::of(&validate(&text, &[]).unwrap())
    };
    let agent = "{name: agent, image: own}";
    let pod = patched(&format!("{{name: sidetrace}}, {agent}"));
    assert_eq!(pod.names("containers"), ["sidetrace", "agent"]);
    assert_eq!(pod.names("initContainers"), ["mine", "sidetrace-init"], "which the document says too");
    // The trap that the document warns of. If it is gone, so may the warning.
    assert_eq!(patched(agent).names("containers"), ["agent", "sidetrace"]);
}

#[test]
fn variants_can_be_combined_as_the_documents_say() {
    let text = layered(
        "combined",
        "resources: [BASE]\ncomponents: [COMPONENTS/inbound, COMPONENTS/mounted-authority, COMPONENTS/localhost-seccomp, \
         COMPONENTS/classic, COMPONENTS/job]\n",
    );
    let pod = Pod::of(&validate(&text, &[]).unwrap());
    assert_eq!(pod.names("initContainers"), ["sidetrace-init"]);
    assert_eq!(pod.names("containers"), ["sidetrace", "agent"]);
    let sidecar = pod.container("sidetrace");
    assert_eq!(sidecar["securityContext"]["seccompProfile"]["type"], "Localhost");
    assert_eq!(value(sidecar, "SIDETRACE_CA_KEY"), "/run/sidetrace-ca/tls.key");
    assert_eq!(value(pod.container("sidetrace-init"), "SIDETRACE_REDIRECT_INBOUND_PORTS"), "*");
}

/// The kustomization that deploy/README.md shows under this title.
fn documented(title: &str) -> String {
    let document = std::fs::read_to_string(root().join("deploy/README.md")).unwrap();
    let marked = format!("```yaml\n# kustomization.yaml: {title}\n");
    document.split(&marked).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// A file beside the kustomization of that name.
fn beside(name: &str, file: &str, text: &str) {
    std::fs::write(folder(name).join(file), text).unwrap();
}

/// Renders a kustomization of a user's own, in which BASE, OVERLAYS, COMPONENTS and `sidetrace/deploy` stand for ours.
fn layered(name: &str, kustomization: &str) -> String {
    let folder = folder(name);
    // kustomize takes no absolute paths.
    let up: PathBuf = folder.strip_prefix(root()).unwrap().components().map(|_| "..").collect();
    let ours = |folder: &str| up.join("deploy").join(folder).display().to_string();
    let text = kustomization.replace("sidetrace/deploy", &ours("."));
    let text = text.replace("BASE", &ours("base")).replace("OVERLAYS", &ours("overlays"));
    std::fs::write(folder.join("kustomization.yaml"), text.replace("COMPONENTS", &ours("components"))).unwrap();
    kustomize(&folder)
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manifests").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A workload as somebody has it who never heard of us.
const SHOP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      serviceAccountName: shop
      terminationGracePeriodSeconds: 300
      securityContext: {runAsNonRoot: true, runAsUser: 10001, fsGroup: 10001}
      initContainers:
        - {name: migrate, image: registry.example.com/shop, args: [migrate]}
      containers:
        - name: web
          image: registry.example.com/shop
          env:
            - {name: SSL_CERT_FILE, value: /etc/shop/ca.pem}
            - {name: PORT, value: '8080'}
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}}
          volumeMounts: [{name: shop-ca, mountPath: /etc/shop}]
        - {name: worker, image: registry.example.com/shop}
      volumes:
        - {name: shop-ca, configMap: {name: shop-ca}}
";
