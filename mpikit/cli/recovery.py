# SPDX-License-Identifier: Apache-2.0
"""The commands that help a running job over a failure."""

from __future__ import annotations

import click

from mpikit.cli.context import CommandContext, Session
from mpikit.cli.help import Verb
from mpikit.cli.options import job_options, output_option, submit_options
from mpikit.cli.view import show_result
from mpikit.text.terminal import show_data, talk


@click.command(cls=Verb)
@click.argument("name", required=False)
@output_option
@click.option("--force", is_flag=True, help="Repair the job even if its label names another user.")
@job_options
@click.pass_obj
def repair(context: CommandContext, name: str | None, output: str, force: bool) -> None:
    """Delete the workers of a running job that have failed, so that they are created anew.

    The MPI Operator never replaces a failed or evicted worker. The launcher waits for the new one and continues from
    the last checkpoint. NAME defaults to your newest job.

    \b
        python generate.py repair ada-vit-16cards
    """
    from mpikit.lifecycle.repair import repair_job

    session = Session(context)
    name = session.chosen(name)
    done = repair_job(session.cluster, session.namespace, name, None if force else session.user)
    value = {"name": name, "namespace": session.namespace, "deleted": list(done.deleted), "advice": list(done.advice)}
    text = "\n".join(f'pod "{pod}" deleted' for pod in done.deleted) or f"no worker of MPIJob {name} has failed"
    show_result(output, value, lambda: text, list(done.deleted))
    talk(*done.advice)


@click.command(cls=Verb)
@submit_options
@click.pass_obj
def rbac(context: CommandContext) -> None:
    """Print the rights that a job needs to replace its failed workers by itself.

    With `restarts: {replaceWorkers: true}` the launcher deletes a worker pod that has failed, so that the MPI Operator
    creates it anew. Its service account may read and delete the workers of this job, and nothing else. Creating a Role
    needs the rights of a namespace's administrator.

    \b
        python generate.py rbac --set restarts.replaceWorkers=true | kubectl apply -f -
    """
    from mpikit.render.renderer import render_rbac

    loaded = context.load()
    loaded.require_user()
    namespace = context.namespace or loaded.job.namespace or Session(context).namespace
    show_data(render_rbac(loaded.job, namespace))
    if not loaded.job.replaces_workers:
        talk("the launcher uses these rights with --set restarts.replaceWorkers=true only")


RECOVERY = (repair, rbac)
