"""Where the wrapper keeps things in the VM."""

# a private tmpfs in the wrapper's own mount namespace; container root must be able to pass through the directories
STAGE = "/run/cofferdam/stage"
# directories for the layers of engines inside privileged containers: STORES/<container>/<place>
STORES = "/var/lib/cofferdam/stores"
DOCKER_ROOT = "/var/lib/docker"
