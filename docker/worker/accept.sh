#!/bin/sh
# NativeLink's experimental_precondition_script: a refused action goes to another worker and loses no attempt.
[ ! -e "${NATIVELINK_FOLDER:-/var/lib/nativelink}/draining" ]
