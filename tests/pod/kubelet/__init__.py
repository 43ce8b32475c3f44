"""What `kubelet.py` is made of, in the order of a pod's life:

manifest    the documents of a file: one pod, its ConfigMaps and Secrets; refuses what is not understood
schema      every field that is understood, and those that are ignored, with the reason
values      fieldRefs, resourceFieldRefs, quantities, `$(VAR)`: what a manifest's text comes to in this pod
sandbox     the pod before its containers: network, addresses, hosts file
volumes     a directory on the host for each volume
creation    a container of a manifest as arguments of `podman create`
incarnation one start of a container: its process, its log, its end
probes      asking a container from the host's side; hooks
runner      a container through all its starts
pod         who starts when, who stops when
podman      the one place that runs podman
report      events and log lines on stdout
"""
