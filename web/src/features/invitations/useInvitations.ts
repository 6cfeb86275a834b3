import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { unwrap } from "../../api/client";
import { invitationsQuery, keys } from "../../api/queries";
import { useServices } from "../../api/services";

/** The open invitations; made and withdrawn by administrators. */
export function useInvitations() {
  const { api } = useServices();
  const client = useQueryClient();
  const list = useQuery(invitationsQuery(api));
  const refresh = () => client.invalidateQueries({ queryKey: keys.invitations });
  const create = useMutation({
    mutationFn: () => unwrap(api.POST("/api/v1/invitations", { body: {} })),
    onSettled: refresh,
  });
  const withdraw = useMutation({
    mutationFn: (id: string) =>
      unwrap(api.DELETE("/api/v1/invitations/{id}", { params: { path: { id } } })),
    onSettled: refresh,
  });
  return { list, create, withdraw };
}

/** The code goes behind the `#`, which no server is sent and no log keeps. */
export function invitationLink(code: string): string {
  return `${window.location.origin}/sign-up#${new URLSearchParams({ invite: code })}`;
}

export function invitedWith(hash: string): string {
  return new URLSearchParams(hash).get("invite") ?? "";
}
