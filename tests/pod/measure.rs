//! Figures of whole pods, printed and not asserted, for a machine that does nothing else:
//! `cargo test --test pod measure -- --ignored --nocapture`. The images are what counts, not the profile of the tests.

use std::process::Command;

use serde_json::Value;

use super::deployed::Deployed;
use super::images::{OURS, ours, podman_ok};
use super::manifest::Manifest;
use super::world::{Family, World};

#[test]
#[ignore = "prints figures"]
fn measure() {
    for image in OURS {
        let size = podman_ok(&["image", "inspect", "--format", "{{.Size}}", &format!("{}:0.1.0", ours(image))]);
        println!("{image}: {:.1} MB", size.parse::<f64>().unwrap() / 1e6);
    }
    let world = World::new(Family::V4);
    let (mut with, mut without, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pod = Deployed::start(&world, &Manifest::of("python"));
        with.push(seconds(&pod.wait_for("started", "agent")));
        ready.push(to_ready(&pod));
        let pod = Deployed::start(&world, &Manifest::of("bare"));
        without.push(seconds(&pod.wait_for("started", "agent")));
    }
    println!("the agent starts {:.2} s after the pod with Sidetrace, {:.2} s without", median(with), median(without));
    println!("the sidecar is ready {:.0} ms after its process began", 1000.0 * median(ready));

    let pod = Deployed::start(&world, &Manifest::of("python"));
    pod.wait_for_line("agent", "serving");
    println!("the sidecar at rest: {}", memory(&pod));
    println!("calls over TLS, each second: {}", pod.exec("agent", &["python3", "-c", LOAD]));
    println!("the sidecar behind them: {}", memory(&pod));
}

/// When the runner saw it.
fn seconds(event: &Value) -> f64 {
    event["after"].as_f64().unwrap()
}

/// From the start of the sidecar's process, as the kernel knows it, to its own line that says ready; to 10 ms.
fn to_ready(pod: &Deployed) -> f64 {
    let line = pod.wait_for_line("sidetrace", " ready ");
    let script = format!(
        "import datetime, time\n\
         ticks = int(open('/proc/{}/stat').read().rsplit(')', 1)[1].split()[19])\n\
         began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / 100\n\
         print(datetime.datetime.fromisoformat('{}'.replace('Z', '+00:00')).timestamp() - began)",
        pod.id("sidetrace"),
        line.split(' ').next().unwrap(),
    );
    let output = Command::new("python3").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn memory(pod: &Deployed) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.id("sidetrace"))).unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    format!("{:.1} MiB resident, {:.1} MiB at most", of("VmRSS"), of("VmHWM"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const ROUNDS: usize = 5;

/// 100 calls a second for 30 s, over connections that are kept; prints the rate that there was.
const LOAD: &str = "
import requests, threading, time
def call():
    session, at = requests.Session(), time.monotonic()
    for number in range(750):
        time.sleep(max(0, at + number / 25 - time.monotonic()))
        session.get('https://api.weather.example/forecast').raise_for_status()
began = time.monotonic()
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(round(3000 / (time.monotonic() - began), 1))
";
