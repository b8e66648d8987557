# SPDX-License-Identifier: Apache-2.0
"""The main process of the launcher: runs mpirun's script again after a failure that another attempt can survive."""
